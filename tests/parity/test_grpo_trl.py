"""Our losses against TRL's own trainers: the same tensors through their real compute_loss, all gradients."""

from __future__ import annotations

import os
import random

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from schemas.values import text_message
from stages.core.registry import load
from stages.models.attention.shared_inputs import TokenGroup
from stages.models.load import load_policy
from stages.models.policy_ref import resolve_policy
from stages.train.advantages.base import Batch
from stages.train.config import TrainConfig
from stages.train.losses.base import LossInputs, StepTotals, sequence_weight
from stages.train.rl.logprobs import completion_logprobs
from tests.train.made import image

G, PROMPTS, LONGEST = 4, 3, 8
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def trl():
    """TRL's trainer classes with their configs, by name."""
    torch.set_num_threads(2)
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    return {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}


def trainer_of(trl, policy, folder, kind="grpo", **settings):
    from datasets import Dataset

    trainer_class, config_class = trl[kind]
    args = config_class(
        output_dir=str(folder),
        report_to="none",
        num_generations=G,
        per_device_train_batch_size=PROMPTS * G,
        max_completion_length=LONGEST,
        disable_tqdm=True,
        gradient_checkpointing=False,
        log_level="error",
        **{"use_cpu": True, "bf16": False, **settings},
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
        own_images = [image(i, 56 + 28 * i)] if images else []
        encoded = policy.processor.encode([text_message("user", "count " * (i + 2), len(own_images))], own_images)
        completions = [[rng.randrange(20, 400) for _ in range(rng.randrange(1, LONGEST))] for _ in range(G)]
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
        "old_logps": old_NT.sum(1),
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


CASES = {
    "grpo": ("grpo", {"aggregation": "sequence_mean"}, {"loss_type": "grpo"}),
    "bnpo": ("grpo", {"aggregation": "global_tokens"}, {"loss_type": "bnpo"}),
    "dapo": ("dapo", {}, {"loss_type": "dapo"}),
    "dr_grpo": ("dr_grpo", {"clip_high": 0.28}, {"loss_type": "dr_grpo"}),
    "gspo": ("gspo", {"clip_low": 0.2}, {"loss_type": "grpo", "importance_sampling_level": "sequence"}),
    # TRL's epsilon_high is the cap itself here, ours what it has above 1.
    "cispo": ("cispo", {}, {"loss_type": "cispo", "epsilon_high": 1.28}),
}
"""TRL's name: our loss, our settings, TRL's."""


def our_loss(policy, made, share, config):
    """Our loss of a made batch, its statistics, and the scores it is of."""
    groups, mask_NT, old_NT, ref_NT, advantages_N = made
    lengths = mask_NT.sum(1).int().tolist()
    totals = StepTotals(PROMPTS, PROMPTS * G, sum(lengths), LONGEST)
    weights_N = torch.tensor(
        [sequence_weight(config.aggregation, n, sum(lengths[i // G * G :][:G]), totals) for i, n in enumerate(lengths)]
    )
    scores = completion_logprobs(policy.model, policy.processor, groups, [], share=share)
    reference = ref_NT if config.ref_kl else None
    inputs = LossInputs(scores.logprobs_NT, old_NT, advantages_N[:, None], mask_NT, weights_N, reference)
    loss, stats = load("loss", config.loss).loss(inputs, config.loss_settings())
    return loss, stats, scores


def assert_same(policy, trainer, ours, inputs):
    """Loss and every parameter's gradient."""
    our_gradients = gradients(policy.model, ours)
    trainer.model.train()
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


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("name", "images", "beta"), [("llama", False, 0.0), ("qwen2_5_vl", True, 0.04)])
def test_loss_and_gradients_equal_trls(trl, tmp_path, name, images, beta, case):
    policy = load_policy(resolve_policy(f"tiny:{name}"), device="cpu")
    made = made_batch(policy, images)
    loss, settings, theirs = CASES[case]
    config = TrainConfig(**{"loss": loss, "clip_high": 0.28, "ref_kl": beta, **settings}).resolved()
    ours, stats, scores = our_loss(policy, made, images, config)
    settings = {"epsilon": 0.2, "epsilon_high": 0.28, "steps_per_generation": 1, "use_bias_correction_kl": False}
    trainer = trainer_of(trl, policy, tmp_path, beta=beta, **{**settings, **theirs})
    assert_same(policy, trainer, ours, trl_inputs(policy, *made))

    _, mask_NT, old_NT, _, advantages_N = made
    metrics, tokens = trainer._metrics["train"], mask_NT.sum().item()
    if case == "gspo":
        # TRL counts completions, we count their tokens.
        ratio_N = ((scores.logprobs_NT - old_NT) * mask_NT).sum(1).div(mask_NT.sum(1)).exp()
        clipped_N = ((ratio_N > 1.28) & (advantages_N > 0)) | ((ratio_N < 0.8) & (advantages_N < 0))
        assert clipped_N.float().mean().item() == pytest.approx(metrics["clip_ratio/region_mean"][0], abs=1e-6)
        assert stats["clipped"].item() == (clipped_N * mask_NT.sum(1)).sum().item()
    elif case != "cispo":
        assert stats["clipped"].item() / tokens == pytest.approx(metrics["clip_ratio/region_mean"][0], abs=1e-6)
    assert 0 < stats["clipped"].item() < tokens
    assert (scores.entropy_NT.sum() / tokens).item() == pytest.approx(metrics["entropy"][0], abs=TOLERANCE)
    if beta:
        assert stats["ref_kl"].item() / tokens == pytest.approx(metrics["kl"][0], abs=TOLERANCE)


def test_rloo_equals_trls_rloo_trainer(trl, tmp_path):
    """Without its KL, which TRL puts into the reward."""
    policy = load_policy(resolve_policy("tiny:qwen2_5_vl"), device="cpu")
    made = made_batch(policy, images=True)
    config = TrainConfig(loss="rloo", clip_high=0.28).resolved()
    ours, stats, _ = our_loss(policy, made, True, config)
    trainer = trainer_of(trl, policy, tmp_path, "rloo", beta=0.0, epsilon=0.2, epsilon_high=0.28)
    assert_same(policy, trainer, ours, trl_inputs(policy, *made))
    assert 0 < stats["clipped"].item() < made[1].sum().item()


@pytest.mark.parametrize(
    ("advantage", "kind", "settings"),
    [
        ("grpo_norm", "grpo", {"loss_type": "grpo"}),
        ("group_mean", "grpo", {"loss_type": "dr_grpo", "scale_rewards": "none"}),
        ("rloo", "rloo", {"beta": 0.0}),
    ],
)
def test_advantages_equal_trls(trl, tmp_path, advantage, kind, settings):
    """TRL's own scoring of a generated batch, with rewards made up for it, one missing."""
    rng = random.Random(2)
    rewards = [[rng.random() for _ in range(G)] for _ in range(PROMPTS - 1)] + [[1.0] * G]
    rewards[0][2] = None
    flat = [r for group in rewards for r in group]

    policy = load_policy(resolve_policy("tiny:llama"), device="cpu")
    trainer = trainer_of(trl, policy, tmp_path, kind, max_steps=1, **settings)
    trainer.reward_funcs = [lambda completions, **_: flat]
    trainer.model.eval()
    trainer.num_generations_eval = G
    with torch.no_grad():
        out = trainer._generate_and_score_completions([{"prompt": "how many"}] * (PROMPTS * G))
    ours = load("advantage", advantage).advantages(Batch(rewards))
    expected = [a if a is not None else 0.0 for group in ours for a in group]
    assert out["advantages"].tolist() == pytest.approx(expected, abs=TOLERANCE)
    assert max(expected) > 0.25
