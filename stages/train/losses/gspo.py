"""GSPO: one length-normalised ratio for the whole completion, clipped as one (arXiv:2507.18071).

    s    = exp(mean over the completion's tokens of log pi(y) - log pi_old(y))
    loss = - 1 / completions * sum of min(s * A, clip(s, 1 - 3e-4, 1 + 4e-4) * A)               (eq. 5)

A completion is clipped as a whole, and so far closer to 1 than a token would be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.train.losses.base import SEQUENCE_MEAN, LossInputs, LossPlugin, LossSettings, pessimistic

if TYPE_CHECKING:
    from torch import Tensor


def per_token(inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """The completion's loss (N, 1), the same for each of its inputs."""
    # The gradient goes through the ratio, and so to each token in equal parts, as in the paper's eq. 5.
    ratio_N1 = ((inputs.log_ratio_NT * inputs.mask_NT).sum(1, keepdim=True) / inputs.lengths_N1).exp()
    surrogate_N1, clipped_N1 = pessimistic(ratio_N1, inputs.advantages_N1, settings)
    return -surrogate_N1, {"ratio": ratio_N1, "clipped": clipped_N1}


PLUGIN = LossPlugin(version=1, per_token=per_token, aggregation=SEQUENCE_MEAN, clip_low=3e-4, clip_high=4e-4)
