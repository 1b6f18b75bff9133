"""CPGD: clipped policy gradient with a policy drift towards the old policy (arXiv:2505.12504).

With l = log pi(y) - log pi_old(y) for each token, r = exp(l) and A the completion's advantage, eq. 2 is

    Phi  = min(l * A, clip(l, log(1 - clip_low), log(1 + clip_high)) * A)
    E    = min(stopgrad(r) - 1, drift_cap) * log pi(y)
    loss = - sum of weight * [Phi - drift_alpha * E]

whose gradient is that of a weighted NLL with detached weights
1[not clipped] * A - drift_alpha * min(r - 1, cap).
The drift is a KL from the *old* policy, clipped on its gradient; it is exactly 0 where r = 1.
"""

from __future__ import annotations

import math
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
    log_ratio_NT = logprobs_NT - old_logprobs_NT
    low, high = math.log(1.0 - settings.clip_low), math.log(1.0 + settings.clip_high)
    # An explicit mask, not torch.minimum: at the boundary itself the gradient is off, as in the paper's form.
    clipped_NT = ((advantages_N1 > 0) & (log_ratio_NT >= high)) | ((advantages_N1 < 0) & (log_ratio_NT <= low))
    bounded_NT = log_ratio_NT.detach().clamp(low, high)
    phi_NT = bounded_NT.where(clipped_NT, log_ratio_NT) * advantages_N1

    ratio_NT = log_ratio_NT.detach().exp()
    drift_NT = (ratio_NT - 1.0).clamp(max=settings.drift_cap) * logprobs_NT

    per_token_NT = settings.drift_alpha * drift_NT - phi_NT
    per_token_NT, kl_NT = with_reference(per_token_NT, logprobs_NT, ref_logprobs_NT, settings)
    stats = {
        "ratio": masked_sum(ratio_NT, mask_NT),
        "clipped": masked_sum(clipped_NT, mask_NT),
        "drift": masked_sum(drift_NT, mask_NT),
    }
    if kl_NT is not None:
        stats["ref_kl"] = masked_sum(kl_NT, mask_NT)
    return weighted_sum(per_token_NT, mask_NT, weights_N), stats


PLUGIN = LossPlugin(version=1, loss=loss)
