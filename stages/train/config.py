"""What `cosmo train` can be told. Defaults are the papers' where they state one."""

from __future__ import annotations

from dataclasses import dataclass

from stages.core.config import option
from stages.core.select import Selection

SFT, RL = "sft", "rl"
LEARNING_RATES = {SFT: 1e-5, RL: 1e-6}
"""Used where `learning_rate` is left open: arXiv:2509.24776 for SFT, arXiv:2505.12504 for RL."""
FROZEN_VISION = {SFT: False, RL: True}
"""Used where `freeze_vision` is left open."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run: its objective, its data, its loss, its optimizer, its machine."""

    objective: str = option(RL, "What to minimise", flag="--objective", choices=(SFT, RL))
    # The policy's content digest is part of the plan's key; where it lies is not.
    policy: str | None = option(
        None,
        "Model to start from; RL: the one that sampled the groups, if not given",
        flag="--policy",
        affects=False,
    )
    epochs: int = option(1, "Passes over the data; RL: passes over each rollout", flag="--epochs", low=1)
    steps: int = option(
        0,
        "SFT: stop after this many optimizer steps, repeating data; 0: epochs decide",
        flag="--steps",
        low=0,
    )
    batch_size: int = option(32, "SFT: examples an optimizer step", flag="--batch-size", low=1)
    seed: int = option(0, "Seed of the example order", flag="--seed")
    select: Selection = option(Selection(), "SFT: which prompts to learn from")
    forbid_families: list[str] = option([], "Held-out augmentation families: finding one is an error")

    # RL: what is learned from a rollout
    loss: str = option("cpgd", "Loss plugin (cosmo list loss)", flag="--loss")
    advantage: str = option("group_norm", "Advantage plugin (cosmo list advantage)", flag="--advantage")
    updates_per_rollout: int = option(8, "Optimizer steps that a rollout is split into", flag="--updates", low=1)
    aggregation: str = option(
        "group_tokens",
        "How token losses are averaged over a step",
        choices=("group_tokens", "sequence_mean", "global_tokens"),
    )
    order: str = option("stored", "Order of groups within a rollout", choices=("stored", "seeded"))
    clip_low: float = option(0.2, "Clip below: 1 - clip_low", low=0.0, high=0.999)
    clip_high: float = option(0.2, "Clip above: 1 + clip_high", low=0.0)
    drift_alpha: float = option(0.01, "CPGD: weight of the drift", low=0.0)
    drift_cap: float = option(2.0, "CPGD: ceiling of ratio - 1 in the drift", low=0.0)
    advantage_clamp: float = option(10.0, "Advantages are held within +- this; 0: no limit", low=0.0)
    drop_flat_groups: bool = option(True, "Leave groups of equal reward out before their pictures are decoded")
    old_logprobs: str = option(
        "recompute",
        "The ratio's denominator: the policy's own at the start of the rollout, or the sampler's as stored",
        choices=("recompute", "stored"),
    )
    allow_truncated_sampling: bool = option(False, "Train on groups sampled with top_p < 1 or top_k: biased ratios")
    ref_policy: str | None = option(None, "Reference model of the KL; the start policy, if not given", affects=False)
    ref_kl: float = option(0.0, "Weight of the KL to the reference; 0 loads none", low=0.0)

    # The optimizer and its schedule
    learning_rate: float | None = option(
        None, "Peak rate; not given: 1e-5 for SFT, 1e-6 for RL", flag="--learning-rate", low=0.0
    )
    schedule: str = option("cosine", "Shape of the rate after warm-up", choices=("cosine", "linear", "constant"))
    schedule_steps: int = option(0, "Steps of the whole schedule; 0: this run's for SFT, constant for RL", low=0)
    warmup_steps: int = option(0, "Steps of linear warm-up", low=0)
    min_rate_ratio: float = option(0.1, "Where the schedule ends, as a share of the peak", low=0.0, high=1.0)
    optimizer: str = option(
        "auto",
        "AdamW state: carried where the parent has the same objective, always, or never",
        choices=("auto", "carry", "fresh"),
    )
    weight_decay: float = option(0.01, "AdamW weight decay (matrices only)", low=0.0)
    beta1: float = option(0.9, "AdamW beta 1", low=0.0, high=1.0)
    beta2: float = option(0.95, "AdamW beta 2", low=0.0, high=1.0)
    adam_epsilon: float = option(1e-8, "AdamW epsilon", low=0.0)
    max_grad_norm: float = option(1.0, "Gradient norm is clipped to this; 0: not clipped", low=0.0)
    freeze_vision: bool | None = option(None, "Keep the vision tower as it is; not given: RL yes, SFT no")

    # The machine. Sums are split differently, so results agree to rounding, not to the bit.
    micro_batch_tokens: int = option(8192, "RL: padded tokens a forward pass", affects=False, low=1)
    micro_batch_size: int = option(0, "SFT: examples a forward pass; 0: the whole batch", affects=False, low=0)
    prefix_sharing: str = option(
        "auto",
        "RL: compute a prompt once for its completions where the model can",
        affects=False,
        choices=("auto", "off"),
    )
    checkpoint_steps: int = option(50, "Optimizer steps between resumable checkpoints; 0: none", affects=False, low=0)
    device: str = option("auto", "auto, cpu, cuda, ...", flag="--device", affects=False)
    # A step of 1e-6 is lost in bfloat16 weights, which have three digits.
    dtype: str = option("float32", "Weights while they are trained", choices=("float32", "bfloat16"))
    autocast: str = option("auto", "Forward pass in bfloat16; auto: on a GPU", choices=("auto", "no", "bf16"))
    gradient_checkpointing: bool = option(False, "Recompute activations to save memory", affects=False)
    trust_remote_code: bool = option(False, "Run model code that comes with the weights")

    @property
    def rate(self) -> float:
        """The peak learning rate."""
        return LEARNING_RATES[self.objective] if self.learning_rate is None else self.learning_rate

    @property
    def vision_frozen(self) -> bool:
        """True when the vision tower is not trained."""
        return FROZEN_VISION[self.objective] if self.freeze_vision is None else self.freeze_vision
