"""Completion log-probs: the packed and the plain way agree, and both mean what a sampler means."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from stages.models.attention import packed_attention, packed_varlen
from stages.models.attention.packed_attention import use_packed_attention
from stages.models.attention.shared_inputs import TokenGroup
from stages.models.families import uncached_reason, unshared_reason
from stages.train.rl import token_scores as head
from stages.train.rl.logprobs import completion_logprobs
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
    assert unshared_reason(policy.model) is None

    assert_same(*(scored_with_gradients(policy.model, policy.processor, groups, banned, s) for s in (False, True)))


def scored_with_gradients(model, processor, groups, banned, share):
    model.zero_grad()
    out = completion_logprobs(model, processor, groups, banned, share=share)
    weights = torch.randn(out.logprobs_NT.shape, generator=torch.Generator().manual_seed(0))
    (out.logprobs_NT * weights * out.mask_NT).sum().backward()
    return out, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(plain_run, shared_run):
    (plain, plain_grads), (shared, shared_grads) = plain_run, shared_run
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


SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "tie_word_embeddings": False,
}  # fmt: skip


def both_ways_of_text(policies, family, **more):
    """The model; its log-probs with gradients, first each completion with a prompt of its own; prompts' lengths."""
    policy = policies("llama")
    config = AutoConfig.for_model(family, vocab_size=policy.processor.vocab_size, **more, **SIZES)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    groups = token_groups(policy, [scored_group(policy, i, g=2 + i, images=False) for i in range(3)])
    assert unshared_reason(model) is None
    runs = [scored_with_gradients(model, policy.processor, groups, [5], share) for share in (False, True)]
    return model, runs, [len(g.prompt) for g in groups]


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "mistral"])
def test_other_families_with_grouped_heads_share_prompts_too(policies, family):
    assert_same(*both_ways_of_text(policies, family, sliding_window=None)[1])


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("mistral", {"sliding_window": 6}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    ],
)
def test_a_completion_sees_no_further_back_than_its_layers_window(policies, family, more, monkeypatch):
    """Windows that end in a prompt, and in a completion; sampling copies prompts, whose cache keeps its end alone."""
    model, (plain, shared), prompts = both_ways_of_text(policies, family, **more)
    assert min(prompts) > 6
    assert int(plain[0].mask_NT.sum(-1).max()) > 6
    assert_same(plain, shared)
    assert uncached_reason(model) == "some of its layers see a part of the past only"
    assert packed_varlen.unusable_reason(model, torch.device("cpu")) == uncached_reason(model)
    # A layer that forgot its window would be off by far more than rounding.
    blocks = packed_attention.block_by_block
    monkeypatch.setattr(packed_attention, "block_by_block", lambda *given: blocks(*given[:5]))
    with pytest.raises(AssertionError):
        assert_same(*both_ways_of_text(policies, family, **more)[1])


def test_the_generation_before_with_images(policies):
    policy = policies("qwen2_5_vl")
    own = policy.model.config
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    config = AutoConfig.for_model(
        "qwen2_vl",
        text_config={"vocab_size": policy.processor.vocab_size, "rope_parameters": rope, **SIZES},
        vision_config={"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2},
        **{
            n: getattr(own, n)
            for n in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
        },
    )
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).eval()
    groups = token_groups(policy, [scored_group(policy, i, g=2 + i, images=i != 1) for i in range(3)])
    assert_same(*(scored_with_gradients(model, policy.processor, groups, [5], share) for share in (False, True)))


def test_a_family_that_is_not_known_and_layers_of_another_kind_are_told_apart(policies):
    own = AutoConfig.for_model("qwen3", vocab_size=64, layer_types=["full_attention", "chunked_attention"], **SIZES)
    other = AutoConfig.for_model("gpt_neox", vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    reasons = [unshared_reason(AutoModelForCausalLM.from_config(c)) for c in (own, other)]
    assert reasons == [
        "some of its layers attend in a way of their own: chunked_attention",
        "not known to work for gpt_neox",
    ]


def test_a_model_that_keeps_packed_attention_is_itself_elsewhere(policies):
    """The sampler gets the same warm model: a plain forward, padded rows and a cache are as under sdpa."""
    policy = policies("llama")
    fresh = AutoModelForCausalLM.from_config(policy.model.config, attn_implementation="sdpa").eval()
    fresh.load_state_dict(policy.model.state_dict())
    use_packed_attention(policy.model)
    ids = torch.randint(10, 200, (2, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    with torch.no_grad():
        assert torch.equal(policy.model(ids, attention_mask=mask).logits, fresh(ids, attention_mask=mask).logits)
        more = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
        assert torch.equal(policy.model.generate(ids, **more), fresh.generate(ids, **more))


@pytest.mark.parametrize("share", [False, True])
def test_no_table_of_logits_is_kept_and_pieces_give_the_same(policies, share, monkeypatch):
    """What the backward pass keeps has at most a piece's logits, however many tokens there are."""
    policy = policies("qwen2_5_vl")
    groups = token_groups(policy, [scored_group(policy, i, g=4) for i in range(3)])
    whole = scored_with_gradients(policy.model, policy.processor, groups, [3], share)
    vocabulary, kept = policy.processor.vocab_size, []

    def look(tensor):
        if tensor.shape[-1:] == (vocabulary,) and not isinstance(tensor, torch.nn.Parameter):
            kept.append(tensor.shape)
        return tensor

    monkeypatch.setattr(head, "PIECE", 16 * vocabulary)
    with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
        out = completion_logprobs(policy.model, policy.processor, groups, [3], share=share)
    assert out.mask_NT.sum() > 64
    assert not kept
    assert_same(whole, scored_with_gradients(policy.model, policy.processor, groups, [3], share))
