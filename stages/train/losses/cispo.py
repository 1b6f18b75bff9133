"""CISPO: the ratio is a capped, detached weight, so that no token loses its gradient (arXiv:2506.13585).

    loss = - 1 / tokens of the step * sum of stopgrad(clip(r, 1 - clip_low, 1 + clip_high)) * A * log pi(y)

With the paper's open lower side (`clip_low = 1`) and the cap of 5 that ScaleRL found good (arXiv:2510.13786).
`clipped` counts the tokens whose weight is capped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.train.losses.base import GLOBAL_TOKENS, LossInputs, LossPlugin, LossSettings

if TYPE_CHECKING:
    from torch import Tensor


def per_token(inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted NLL of each token."""
    low, high = settings.bounds
    ratio_NT = inputs.log_ratio_NT.detach().exp()
    loss_NT = -ratio_NT.clamp(low, high) * inputs.advantages_N1 * inputs.logprobs_NT
    return loss_NT, {"ratio": ratio_NT, "clipped": (ratio_NT < low) | (ratio_NT > high)}


PLUGIN = LossPlugin(version=1, per_token=per_token, aggregation=GLOBAL_TOKENS, clip_low=1.0, clip_high=4.0)
