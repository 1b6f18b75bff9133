"""CPGD: clipped policy gradient with a policy drift towards the old policy (arXiv:2505.12504).

With l = log pi(y) - log pi_old(y) for each token, r = exp(l) and A the completion's advantage, eq. 2 is

    Phi  = min(l * A, clip(l, log(1 - clip_low), log(1 + clip_high)) * A)
    E    = min(stopgrad(r) - 1, drift_cap) * log pi(y)
    loss = - sum of weight * [Phi - drift_alpha * E]

whose gradient is that of a weighted NLL with detached weights
1[not clipped] * A - drift_alpha * min(r - 1, cap).
The drift is a KL from the *old* policy, clipped on its gradient; it is exactly 0 where r = 1.

The paper's ablations are settings: `drift_alpha = 0` (CPG), `clip = false` (drift only), both (PG); its weights
w(x) are the advantages group_mean (1), group_norm (1 / std) and clip_filter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.core.config import option
from stages.train.losses.base import LossInputs, LossPlugin, LossSettings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CpgdSettings:
    """[train.losses.cpgd]: the policy drift of eq. 2."""

    # Both as in the authors' code. By the paper's ablation the clip carries the gain, and the drift is a safeguard.
    drift_alpha: float = option(0.01, "Weight of the drift", low=0.0)
    drift_cap: float = option(2.0, "Ceiling of ratio - 1 in the drift's gradient", low=0.0)


def per_token(inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """drift_alpha * E - Phi of each token."""
    own: CpgdSettings = settings.own
    advantages_N1, log_ratio_NT = inputs.advantages_N1, inputs.log_ratio_NT
    # `clip = false` and `clip_low = 1` leave the ratio open below: a bound of 0, whose logarithm Python refuses.
    low, high = (math.log(b) if b > 0.0 else -math.inf for b in settings.bounds)
    # An explicit mask, not torch.minimum: at the boundary itself the gradient is off, as in the paper's form.
    clipped_NT = ((advantages_N1 > 0) & (log_ratio_NT >= high)) | ((advantages_N1 < 0) & (log_ratio_NT <= low))
    # The bound's value where the gradient is off, so that the loss that is reported is still Phi.
    bounded_NT = log_ratio_NT.detach().clamp(low, high)
    phi_NT = bounded_NT.where(clipped_NT, log_ratio_NT) * advantages_N1

    ratio_NT = log_ratio_NT.detach().exp()
    drift_NT = (ratio_NT - 1.0).clamp(max=own.drift_cap) * inputs.logprobs_NT
    return own.drift_alpha * drift_NT - phi_NT, {"ratio": ratio_NT, "clipped": clipped_NT, "drift": drift_NT}


PLUGIN = LossPlugin(version=1, per_token=per_token, settings=CpgdSettings)
