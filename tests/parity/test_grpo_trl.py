"""Our GRPO against TRL's own GRPOTrainer: the same tensors through its real compute_loss, all gradients."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from schemas.values import text_message
from stages.core.registry import load
from stages.models.identity import resolve_policy
from stages.models.load import load_policy
from stages.train.config import TrainConfig
from stages.train.logprobs import TokenGroup, completion_logprobs
from stages.train.losses.base import StepTotals, sequence_weight
from tests.train.made import picture

G, PROMPTS = 4, 3
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def trl():
    """TRL's trainer class and its config."""
    torch.set_num_threads(2)
    from trl import GRPOConfig, GRPOTrainer

    return GRPOTrainer, GRPOConfig


def trainer_of(trl, policy, folder, **settings):
    from datasets import Dataset

    trainer_class, config_class = trl
    args = config_class(
        output_dir=str(folder),
        report_to="none",
        use_cpu=True,
        bf16=False,
        num_generations=G,
        per_device_train_batch_size=PROMPTS * G,
        max_completion_length=8,
        disable_tqdm=True,
        gradient_checkpointing=False,
        log_level="error",
        **settings,
    )
    trainer = trainer_class(
        model=policy.model,
        reward_funcs=[lambda completions, **_: [0.0] * len(completions)],
        args=args,
        train_dataset=Dataset.from_dict({"prompt": ["how many"] * 4}),
        processing_class=policy.processor.tokenizer,
    )
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def made_batch(policy, images: bool):
    """Groups, and old and reference log-probs well away from the policy's own, as padded tensors."""
    rng = random.Random(0)
    groups = []
    for i in range(PROMPTS):
        pictures = [picture(i, 56 + 28 * i)] if images else []
        encoded = policy.processor.encode([text_message("user", "count " * (i + 2), len(pictures))], pictures)
        completions = [[rng.randrange(20, 400) for _ in range(rng.randrange(1, 8))] for _ in range(G)]
        groups.append(TokenGroup(encoded.token_ids, encoded.image_inputs, completions, [1.0] * G))
    with torch.no_grad():
        now = completion_logprobs(policy.model, policy.processor, groups, [], share=False)
    noise = torch.Generator().manual_seed(1)
    old_NT = (now.logprobs_NT + 0.3 * torch.randn(now.mask_NT.shape, generator=noise)) * now.mask_NT
    ref_NT = (now.logprobs_NT + 0.3 * torch.randn(now.mask_NT.shape, generator=noise)) * now.mask_NT
    advantages_N = torch.randn(PROMPTS * G, generator=noise)
    return groups, now.mask_NT, old_NT, ref_NT, advantages_N


def trl_inputs(policy, groups, mask_NT, old_NT, ref_NT, advantages_N):
    """The batch as TRL's trainer builds it: prompts padded left, completions right."""
    prompts = [g.prompt for g in groups for _ in range(G)]
    images = [g.image_inputs for g in groups for _ in range(G)]
    batch = policy.processor.batch(prompts, images, side="left")
    ids_NT = torch.full(mask_NT.shape, policy.processor.pad_token_id)
    for n, completion in enumerate(c for g in groups for c in g.completions):
        ids_NT[n, : len(completion)] = torch.tensor(completion)
    inputs = {
        "prompt_ids": batch.pop("input_ids"),
        "prompt_mask": batch.pop("attention_mask"),
        "completion_ids": ids_NT,
        "completion_mask": mask_NT.long(),
        "advantages": advantages_N,
        "old_per_token_logps": old_NT,
        "ref_per_token_logps": ref_NT,
        "num_items_in_batch": mask_NT.sum(),
    }
    if "mm_token_type_ids" in batch:
        types = batch.pop("mm_token_type_ids")
        inputs["mm_token_type_ids"] = torch.cat([types, torch.zeros(mask_NT.shape, dtype=types.dtype)], dim=1)
    if any(images):
        inputs["num_images"] = [1] * len(images)
    return inputs | batch


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize(
    ("loss_type", "aggregation"),
    [("grpo", "sequence_mean"), ("bnpo", "global_tokens"), ("dapo", "global_tokens")],
)
@pytest.mark.parametrize(("name", "images", "share"), [("llama", False, False), ("qwen2_5_vl", True, True)])
def test_loss_and_gradients_equal_trls(trl, tmp_path, name, images, share, loss_type, aggregation, beta):
    policy = load_policy(resolve_policy(f"tiny:{name}"), device="cpu")
    groups, mask_NT, old_NT, ref_NT, advantages_N = made_batch(policy, images)
    lengths = mask_NT.sum(1).int().tolist()
    totals = StepTotals(PROMPTS, PROMPTS * G, sum(lengths))
    weights_N = torch.tensor(
        [sequence_weight(aggregation, n, sum(lengths[i // G * G :][:G]), totals) for i, n in enumerate(lengths)]
    )
    config = replace(TrainConfig(), clip_low=0.2, clip_high=0.28, ref_kl=beta)
    scores = completion_logprobs(policy.model, policy.processor, groups, [], share=share)
    ours, stats = load("loss", "grpo").loss(
        scores.logprobs_NT, old_NT, advantages_N, mask_NT, weights_N, config, ref_NT if beta else None
    )
    our_gradients = gradients(policy.model, ours)

    trainer = trainer_of(
        trl,
        policy,
        tmp_path,
        loss_type=loss_type,
        beta=beta,
        epsilon=0.2,
        epsilon_high=0.28,
        steps_per_generation=1,
        use_bias_correction_kl=False,
    )
    trainer.model.train()
    inputs = trl_inputs(policy, groups, mask_NT, old_NT, ref_NT, advantages_N)
    theirs = trainer.compute_loss(trainer.model, inputs)
    their_gradients = gradients(trainer.model, theirs)

    assert abs(ours.item()) > 1e-3
    assert ours.item() == pytest.approx(theirs.item(), abs=TOLERANCE)
    assert our_gradients.keys() == their_gradients.keys()
    assert max(g.abs().max().item() for g in our_gradients.values()) > 1e-2
    for key, gradient in our_gradients.items():
        torch.testing.assert_close(
            gradient, their_gradients[key], atol=TOLERANCE, rtol=TOLERANCE, msg=lambda m, k=key: f"{k}: {m}"
        )

    metrics = trainer._metrics["train"]
    tokens = mask_NT.sum().item()
    assert stats["clipped"].item() / tokens == pytest.approx(metrics["clip_ratio/region_mean"][0], abs=1e-6)
    assert stats["clipped"].item() > 0
    assert (scores.entropy_NT.sum() / tokens).item() == pytest.approx(metrics["entropy"][0], abs=TOLERANCE)
    if beta:
        assert stats["ref_kl"].item() / tokens == pytest.approx(metrics["kl"][0], abs=TOLERANCE)


def test_advantages_equal_trls(trl, tmp_path):
    """TRL's own scoring of a generated batch, with rewards made up for it, one missing."""
    rng = random.Random(2)
    rewards = [[rng.random() for _ in range(G)] for _ in range(PROMPTS - 1)] + [[1.0] * G]
    rewards[0][2] = None
    flat = [r for group in rewards for r in group]

    policy = load_policy(resolve_policy("tiny:llama"), device="cpu")
    trainer = trainer_of(trl, policy, tmp_path, loss_type="grpo", max_steps=1)
    trainer.reward_funcs = [lambda completions, **_: flat]
    trainer.model.eval()
    trainer.num_generations_eval = G
    with torch.no_grad():
        out = trainer._generate_and_score_completions([{"prompt": "how many"}] * (PROMPTS * G))
    ours = load("advantage", "grpo_norm").advantages(rewards)
    expected = [a if a is not None else 0.0 for group in ours for a in group]
    assert out["advantages"].tolist() == pytest.approx(expected, abs=TOLERANCE)
    assert max(expected) > 0.5
