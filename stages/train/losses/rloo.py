"""RLOO: REINFORCE over whole completions with a leave-one-out baseline (arXiv:2402.14740).

    A_k  = R_k - mean of the group's other rewards
    loss = - 1 / completions * sum of min(p * A, clip(p, 1 - clip_low, 1 + clip_high) * A),  p = pi(y) / pi_old(y)

p is the completion's full probability ratio, as in TRL. The first update is the paper's, - sum of A * log pi(y);
later ones of a rollout need the ratio. A token-level RLOO is `loss = "grpo"`, `advantage = "rloo"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.train.losses.base import SEQUENCE_SUM, LossInputs, LossPlugin, LossSettings, pessimistic

if TYPE_CHECKING:
    from torch import Tensor

CEILING = 20.0
"""Of log p: beyond it a long completion's ratio would overflow, and the loss with it."""


def per_token(inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """The completion's loss (N, 1), in equal parts on its inputs."""
    log_ratio_N1 = (inputs.log_ratio_NT * inputs.mask_NT).sum(1, keepdim=True)
    # At the ceiling the gradient is gone as well: a completion that far off is not learned from (docs/losses.md).
    ratio_N1 = log_ratio_N1.clamp(max=CEILING).exp()
    surrogate_N1, clipped_N1 = pessimistic(ratio_N1, inputs.advantages_N1, settings)
    # `weighted_sum` counts a completion's value once a token.
    return -surrogate_N1 / inputs.lengths_N1, {"ratio": ratio_N1, "clipped": clipped_N1}


PLUGIN = LossPlugin(version=1, per_token=per_token, aggregation=SEQUENCE_SUM, advantage="rloo")
