"""GRPO: PPO's clipped ratio with group advantages and an optional k3 reference KL (arXiv:2402.03300).

With r = exp(log pi(y) - log pi_old(y)) for each token and A the completion's advantage, eq. 3 is

    loss = - sum of weight * [min(r * A, clip(r, 1 - clip_low, 1 + clip_high) * A) - ref_kl * k3]

`aggregation = "sequence_mean"` is GRPO's own mean, `"global_tokens"` DAPO's (arXiv:2503.14476, eq. 8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.train.losses.base import LossPlugin, Settings, masked_sum, weighted_sum, with_reference

if TYPE_CHECKING:
    from torch import Tensor


def loss(
    logprobs_NT: Tensor,
    old_logprobs_NT: Tensor,
    advantages_N: Tensor,
    mask_NT: Tensor,
    weights_N: Tensor,
    settings: Settings,
    ref_logprobs_NT: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The micro-batch's share of the step's loss, and token sums of its statistics."""
    advantages_N1 = advantages_N.unsqueeze(1)
    low, high = 1.0 - settings.clip_low, 1.0 + settings.clip_high
    ratio_NT = (logprobs_NT - old_logprobs_NT).exp()
    surrogate_NT = (ratio_NT * advantages_N1).minimum(ratio_NT.clamp(low, high) * advantages_N1)
    per_token_NT, kl_NT = with_reference(-surrogate_NT, logprobs_NT, ref_logprobs_NT, settings)

    clipped_NT = ((advantages_N1 > 0) & (ratio_NT > high)) | ((advantages_N1 < 0) & (ratio_NT < low))
    stats = {"ratio": masked_sum(ratio_NT, mask_NT), "clipped": masked_sum(clipped_NT, mask_NT)}
    if kl_NT is not None:
        stats["ref_kl"] = masked_sum(kl_NT, mask_NT)
    return weighted_sum(per_token_NT, mask_NT, weights_N), stats


PLUGIN = LossPlugin(version=1, loss=loss)
