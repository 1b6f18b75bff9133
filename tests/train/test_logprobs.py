"""Completion log-probs: the packed and the plain way agree, and both mean what a sampler means."""

from __future__ import annotations

import pytest
import torch

from stages.train import packed
from stages.train.logprobs import TokenGroup, completion_logprobs
from tests.train.made import scored_group


def token_groups(policy, groups) -> list[TokenGroup]:
    return [
        TokenGroup(
            g.prompt_token_ids,
            policy.processor.encode(g.messages, g.images).image_inputs,
            [c.token_ids for c in g.completions],
            [c.sampling.temperature for c in g.completions],
        )
        for g in groups
    ]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(
    ("name", "images"),
    [("qwen2_5_vl", "mixed"), ("qwen2_5_vl", "none"), ("internvl", "mixed"), ("llama", "none")],
)
def test_prefix_sharing_equals_separate_sequences_with_gradients(policies, name, images, temperature):
    policy = policies(name)
    rows = [
        scored_group(policy, i, g=3 + i % 2, images=images == "mixed" and i != 1, temperature=temperature)
        for i in range(4)
    ]
    groups, banned = token_groups(policy, rows), policy.processor.banned_token_ids
    assert packed.can_share(policy.model)

    def run(share):
        policy.model.zero_grad()
        out = completion_logprobs(policy.model, policy.processor, groups, banned, share=share)
        weights = torch.randn(out.logprobs_NT.shape, generator=torch.Generator().manual_seed(0))
        (out.logprobs_NT * weights * out.mask_NT).sum().backward()
        return out, {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}

    (plain, plain_grads), (shared, shared_grads) = run(False), run(True)
    assert torch.equal(plain.mask_NT, shared.mask_NT)
    torch.testing.assert_close(shared.logprobs_NT, plain.logprobs_NT, atol=1e-5, rtol=0)
    torch.testing.assert_close(shared.entropy_NT, plain.entropy_NT, atol=1e-5, rtol=0)
    assert plain_grads.keys() == shared_grads.keys()
    for n, grad in plain_grads.items():
        assert (shared_grads[n] - grad).abs().max() <= 1e-5 * max(1.0, grad.abs().max()), n


@pytest.mark.parametrize("share", [False, True])
def test_they_are_the_sampled_distribution(policies, share):
    """One sequence alone through the plain forward, banned ids removed, divided by the temperature."""
    policy = policies("qwen2_5_vl")
    rows = [scored_group(policy, i, temperature=0.8) for i in range(3)]
    groups, banned = token_groups(policy, rows), policy.processor.banned_token_ids
    out = completion_logprobs(policy.model, policy.processor, groups, banned, share=share)
    n = 0
    for group in groups:
        for completion in group.completions:
            kwargs = policy.processor.batch([group.prompt + completion], [group.image_inputs])
            logits = policy.model(**kwargs).logits[0, len(group.prompt) - 1 : -1] / 0.8
            logits[:, banned] = -torch.inf
            logprobs = logits.log_softmax(-1)
            ids = torch.tensor(completion)
            expected = logprobs[torch.arange(len(ids)), ids]
            torch.testing.assert_close(out.logprobs_NT[n, : len(ids)], expected, atol=1e-5, rtol=0)
            entropy = torch.distributions.Categorical(logits=logits).entropy()
            torch.testing.assert_close(out.entropy_NT[n, : len(ids)], entropy, atol=1e-5, rtol=0)
            assert out.mask_NT[n].sum() == len(ids)
            assert torch.count_nonzero(out.logprobs_NT[n, len(ids) :]) == 0
            n += 1


@pytest.mark.parametrize("share", [False, True])
def test_gradient_and_no_gradient_forwards_give_the_same_bits(policies, share):
    """What makes the ratio of a rollout's first update exactly 1."""
    policy = policies("qwen2_5_vl")
    groups = token_groups(policy, [scored_group(policy, i) for i in range(3)])
    banned = policy.processor.banned_token_ids
    with torch.no_grad():
        before = completion_logprobs(policy.model, policy.processor, groups, banned, share=share)
    after = completion_logprobs(policy.model, policy.processor, groups, banned, share=share)
    assert torch.equal(before.logprobs_NT, after.logprobs_NT)
    assert after.logprobs_NT.requires_grad
    assert not after.entropy_NT.requires_grad


def test_a_completion_does_not_see_its_siblings(policies):
    policy = policies("qwen2_5_vl")
    group = token_groups(policy, [scored_group(policy, 0)])[0]
    other = TokenGroup(group.prompt, group.image_inputs, [group.completions[0], [7] * 30], [1.0, 1.0])
    banned = policy.processor.banned_token_ids
    first, second = (
        completion_logprobs(policy.model, policy.processor, [g], banned, share=True).logprobs_NT[0]
        for g in (group, other)
    )
    n = len(group.completions[0])
    torch.testing.assert_close(first[:n], second[:n], atol=1e-5, rtol=0)
