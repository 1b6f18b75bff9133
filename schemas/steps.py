"""What `train` writes: one row an optimizer step."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TermStat:
    """The mean of one reward term over a step, or over one label of it."""

    name: str
    """The verifier behind the term."""
    mean: float
    """Mean value over completions to which it applied."""
    completions: int
    """How many those were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelStat:
    """What one label contributed to one step."""

    label: str
    """The prompt label; in a verifier's training, the verdict."""
    completions: int
    """How many completions (or SFT examples) of the step carry it."""
    reward: float | None = None
    """Mean reward over the label's completions that have one."""
    refusal_rate: float | None = None
    """Share of benign prompts of this label that were refused."""
    unsafe_rate: float | None = None
    """Share of harmful prompts of this label that were complied with."""
    length: float | None = None
    """Mean completion length in generated tokens."""
    benign: int = 0
    """Completions behind `refusal_rate`."""
    harmful: int = 0
    """Completions behind `unsafe_rate`."""
    terms: list[TermStat] = field(default_factory=list)
    """The label's mean of each reward term, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """Metrics of one optimizer step."""

    objective: str
    """sft, rl, verifier or reward."""
    step: int
    """Optimizer steps since the start of this objective's lineage, from 1."""
    rollout: int
    """Which rollout folder of the lineage the step's groups came from, from 0; 0 for all but RL."""
    update: int
    """Which update within that rollout, from 0."""
    loss: float
    """The loss that was stepped on."""
    grad_norm: float | None = None
    """Global L2 norm of the gradient before clipping."""
    learning_rate: float
    """The learning rate used in this step."""
    tokens: int
    """Generated (or target) tokens in the step."""
    groups: int
    """Prompt groups (or examples, or pairs) in the step."""
    dropped_groups: int = 0
    """Groups of equal reward that carry no gradient and were left out."""
    reward_mean: float | None = None
    """Mean reward over the step's completions; of a reward model, the mean it gave."""
    reward_std: float | None = None
    """Mean within-group standard deviation of the reward."""
    advantage_abs: float | None = None
    """Mean absolute advantage."""
    entropy: float | None = None
    """Mean token entropy of the policy at the completions, nats."""
    ratio_mean: float | None = None
    """Mean of exp(logprobs - old_logprobs)."""
    clip_fraction: float | None = None
    """Share of tokens whose policy gradient was clipped away."""
    cost_weight: float | None = None
    """Constrained runs: lambda, what an unsafe completion cost in this rollout."""
    drift: float | None = None
    """Mean drift term (CPGD) of the step."""
    ref_kl: float | None = None
    """Mean k3 estimate of KL to the reference policy, nats a token, where one is used."""
    pair_accuracy: float | None = None
    """On pairs: share of the step's that were ordered as their rewards are, before the update."""
    pair_margin: float | None = None
    """On pairs: mean of what the better completion was given minus what the worse one was, before the update."""
    sampler_gap: float | None = None
    """Mean absolute difference between the sampler's log-probs and the recomputed old ones, nats a token."""
    completion_length: float | None = None
    """Mean completion length in generated tokens."""
    truncated_fraction: float | None = None
    """Share of completions that ended by length."""
    seconds: float
    """Wall time of the step, in seconds."""
    labels: list[LabelStat] = field(default_factory=list)
    """The step's part of each label, by name."""
    terms: list[TermStat] = field(default_factory=list)
    """The step's mean of each reward term, by name."""
    alarms: list[str] = field(default_factory=list)
    """Drift alarms that hold at this step, by name."""
