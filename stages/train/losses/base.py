"""What a loss plugin is, how tokens are weighted over a whole step, and the terms that losses share.

Nothing here imports torch: the functions only call tensor methods, so that a plugin's name and version can be
read while planning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

GROUP_TOKENS, SEQUENCE_MEAN, GLOBAL_TOKENS = "group_tokens", "sequence_mean", "global_tokens"
AGGREGATIONS = (GROUP_TOKENS, SEQUENCE_MEAN, GLOBAL_TOKENS)


class Settings(Protocol):
    """The knobs a loss may read; the stage's config has them all."""

    clip_low: float
    clip_high: float
    drift_alpha: float
    drift_cap: float
    ref_kl: float


LossFunction = Callable[..., "tuple[Tensor, dict[str, Tensor]]"]


@dataclass(frozen=True, slots=True)
class LossPlugin:
    """A loss by its version and its function.

    `loss(logprobs_NT, old_logprobs_NT, advantages_N, mask_NT, weights_N, settings, ref_logprobs_NT=None)`
    gives the micro-batch's share of the step's loss and token *sums* of its statistics (`ratio`, `clipped`,
    `drift`, `ref_kl`), so that shares and sums of the micro-batches of a step simply add up.
    """

    version: int
    loss: LossFunction


@dataclass(frozen=True, slots=True)
class StepTotals:
    """What the normalisers of a step count: all its scored completions, left-out flat groups included."""

    prompts: int
    sequences: int
    tokens: int


def sequence_weight(mode: str, length: int, group_tokens: int, totals: StepTotals) -> float:
    """The share that each token of a completion has in the step's loss.

    `group_tokens`: 1 / (prompts x tokens of its group), the CPGD paper's (arXiv:2505.12504, eq. 2).
    `sequence_mean`: 1 / (completions x its own length), GRPO's (arXiv:2402.03300, eq. 3).
    `global_tokens`: 1 / tokens of the step, DAPO's (arXiv:2503.14476, eq. 8).
    """
    if mode == GROUP_TOKENS:
        return 1.0 / (totals.prompts * group_tokens)
    if mode == SEQUENCE_MEAN:
        return 1.0 / (totals.sequences * length)
    if mode == GLOBAL_TOKENS:
        return 1.0 / totals.tokens
    raise ValueError(f"unknown aggregation {mode!r}")


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
    difference = ref_logprobs_NT - logprobs_NT
    return difference.exp() - difference - 1.0


def with_reference(
    per_token_NT: Tensor, logprobs_NT: Tensor, ref_logprobs_NT: Tensor | None, settings: Any
) -> tuple[Tensor, Tensor | None]:
    """The per-token loss with the reference KL added, and that KL; unchanged where there is no reference."""
    if ref_logprobs_NT is None or settings.ref_kl == 0.0:
        return per_token_NT, None
    kl_NT = k3(logprobs_NT, ref_logprobs_NT)
    return per_token_NT + settings.ref_kl * kl_NT, kl_NT
