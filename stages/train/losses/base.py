"""What a loss plugin is, how tokens are weighted over a whole step, and the terms that losses share.

Nothing here imports torch: the functions only call tensor methods, so that a plugin's name and version can be
read while planning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

GROUP_TOKENS, SEQUENCE_MEAN, GLOBAL_TOKENS = "group_tokens", "sequence_mean", "global_tokens"
SEQUENCE_SUM, CONSTANT_LENGTH = "sequence_sum", "constant_length"
AGGREGATIONS = (GROUP_TOKENS, SEQUENCE_MEAN, GLOBAL_TOKENS, SEQUENCE_SUM, CONSTANT_LENGTH)


@dataclass(frozen=True, slots=True)
class LossSettings:
    """What a loss is told: the settings that losses share, and its own."""

    clip: bool = True
    """False: the ratio is not clipped at all, for an ablation."""
    clip_low: float = 0.2
    clip_high: float = 0.2
    ref_kl: float = 0.0
    """Weight of the KL to the reference; 0 adds none."""
    own: Any = None
    """An instance of the plugin's `settings`; None where it has none."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which the ratio is left alone: (1 - clip_low, 1 + clip_high), or (0, inf) without a clip."""
        if not self.clip:
            return 0.0, math.inf
        return 1.0 - self.clip_low, 1.0 + self.clip_high


@dataclass(frozen=True, slots=True)
class LossInputs:
    """A micro-batch as a loss sees it: N completions of at most T tokens."""

    logprobs_NT: Tensor
    """log pi, with a gradient; nats, at the sampling temperature."""
    old_logprobs_NT: Tensor
    """log pi_old: the denominator of the ratio."""
    advantages_N1: Tensor
    """One a completion, the same for each of its tokens."""
    mask_NT: Tensor
    """1 where there is a token that counts, 0 in padding and where the policy did not generate it."""
    weights_N: Tensor
    """The share that each token of a completion has in the step's loss: `sequence_weight`."""
    ref_logprobs_NT: Tensor | None = None
    """log-probs of the reference model; None where its KL has no weight."""

    @property
    def log_ratio_NT(self) -> Tensor:
        """log pi - log pi_old."""
        return self.logprobs_NT - self.old_logprobs_NT

    @property
    def lengths_N1(self) -> Tensor:
        """Generated tokens of each completion, at least 1: a filler of weight 0 has none that count."""
        return self.mask_NT.sum(1, keepdim=True).clamp(min=1.0)


PerToken = Callable[[LossInputs, LossSettings], "tuple[Tensor, dict[str, Tensor]]"]


@dataclass(frozen=True, slots=True)
class LossPlugin:
    """A loss by its version and its function, and what its paper says about the settings around it.

    `per_token(inputs, settings)` gives the loss of each token (N, T), or of each completion (N, 1), and the
    statistics `ratio`, `clipped`, `drift` in the same shapes. `aggregation`, `advantage`, `clip_low` and `clip_high`
    are used where the config leaves theirs open.

    Example, a whole plugin file (stages/train/losses/pull.py) with a setting of its own, `[train.losses.pull]`:

        @dataclass(frozen=True)
        class PullSettings:
            strength: float = option(0.1, "Weight of the pull towards the old policy", low=0.0)

        def per_token(inputs, settings):
            log_ratio_NT = inputs.log_ratio_NT
            pull_NT = settings.own.strength * log_ratio_NT**2
            return pull_NT - log_ratio_NT * inputs.advantages_N1, {"ratio": log_ratio_NT.exp()}

        PLUGIN = LossPlugin(version=1, per_token=per_token, settings=PullSettings)
    """

    version: int
    per_token: PerToken
    aggregation: str = GROUP_TOKENS
    advantage: str = "group_norm"
    clip_low: float = 0.2
    clip_high: float = 0.2
    settings: type[Any] | None = None
    """A frozen dataclass of `option` fields: the table `[train.losses.NAME]`; None where it has none of its own."""

    def loss(self, inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, dict[str, Tensor]]:
        """The micro-batch's share of the step's loss (a scalar), and token sums of its statistics.

        Shares and sums of the micro-batches of a step simply add up.
        """
        per_token_NT, stats_NT = self.per_token(inputs, settings)
        per_token_NT, kl_NT = with_reference(per_token_NT, inputs, settings)
        if kl_NT is not None:
            stats_NT["ref_kl"] = kl_NT
        stats = {name: masked_sum(value_NT, inputs.mask_NT) for name, value_NT in stats_NT.items()}
        return weighted_sum(per_token_NT, inputs.mask_NT, inputs.weights_N), stats


@dataclass(frozen=True, slots=True)
class StepTotals:
    """What the normalisers of a step count: all its scored completions, left-out flat groups included, and of their
    tokens those that were generated."""

    prompts: int
    sequences: int
    tokens: int
    limit: int
    """The longest completion that the sampler allowed."""


def sequence_weight(mode: str, length: int, group_tokens: int, totals: StepTotals) -> float:
    """The share that each token of a completion has in the step's loss.

    `group_tokens`: 1 / (prompts x tokens of its group), the CPGD paper's (arXiv:2505.12504, eq. 2).
    `sequence_mean`: 1 / (completions x its own length), GRPO's (arXiv:2402.03300, eq. 3).
    `global_tokens`: 1 / tokens of the step, DAPO's (arXiv:2503.14476, eq. 8).
    `sequence_sum`: 1 / completions, plain REINFORCE's and RLOO's (arXiv:2402.14740).
    `constant_length`: 1 / (completions x longest allowed), Dr.GRPO's (arXiv:2503.20783, section 3.2).
    """
    if mode == GROUP_TOKENS:
        return 1.0 / (totals.prompts * group_tokens)
    if mode == SEQUENCE_MEAN:
        return 1.0 / (totals.sequences * length)
    if mode == GLOBAL_TOKENS:
        return 1.0 / totals.tokens
    if mode == SEQUENCE_SUM:
        return 1.0 / totals.sequences
    if mode == CONSTANT_LENGTH:
        return 1.0 / (totals.sequences * totals.limit)
    raise ValueError(f"unknown aggregation {mode!r}")


def pessimistic(ratio: Tensor, advantages_N1: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
    """PPO's min(r * A, clip(r) * A) (arXiv:1707.06347, eq. 7), and where it has no gradient any more."""
    low, high = settings.bounds
    surrogate = (ratio * advantages_N1).minimum(ratio.clamp(low, high) * advantages_N1)
    clipped = ((advantages_N1 > 0) & (ratio > high)) | ((advantages_N1 < 0) & (ratio < low))
    return surrogate, clipped


def clipped_ratio(inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """PPO's loss of each token (N, T): what GRPO, Dr.GRPO, DAPO and REINFORCE++ share."""
    ratio_NT = inputs.log_ratio_NT.exp()
    surrogate_NT, clipped_NT = pessimistic(ratio_NT, inputs.advantages_N1, settings)
    return -surrogate_NT, {"ratio": ratio_NT, "clipped": clipped_NT}


def weighted_sum(values_NT: Tensor, mask_NT: Tensor, weights_N: Tensor) -> Tensor:
    """Sum over the tokens that count, each with its completion's weight."""
    return (values_NT * mask_NT * weights_N.unsqueeze(1)).sum()


def masked_sum(values_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Plain sum over the tokens that count, without a gradient."""
    return (values_NT.detach() * mask_NT).sum()


def k3(logprobs_NT: Tensor, ref_logprobs_NT: Tensor) -> Tensor:
    """Per-token k3 estimate of KL(policy || ref): exp(d) - d - 1, d = ref - policy.

    arXiv:2402.03300, eq. 4.
    """
    # Without bias and never negative; the plain difference is without bias, too, and often negative.
    difference = ref_logprobs_NT - logprobs_NT
    return difference.exp() - difference - 1.0


def with_reference(per_token_NT: Tensor, inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, Tensor | None]:
    """The per-token loss with the reference KL added, and that KL; unchanged, and None, where there is no reference."""
    if inputs.ref_logprobs_NT is None or settings.ref_kl == 0.0:
        return per_token_NT, None
    kl_NT = k3(inputs.logprobs_NT, inputs.ref_logprobs_NT)
    return per_token_NT + settings.ref_kl * kl_NT, kl_NT
