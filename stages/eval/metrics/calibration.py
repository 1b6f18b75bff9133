"""Expected calibration error: how far what is said of certainty lies from what comes true, by bins of what is said.

Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning" (2015). Of N completions with stated
probability p and truth t, in bins b of p with n_b of them:

    ECE = sum_b n_b / N * |mean_b t - mean_b p| = sum_b |sum_b t - sum_b p| / N

Bin b of B holds b / B <= p < (b + 1) / B, the last one 1 as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stages.eval.intervals import Interval, bootstrap_interval

if TYPE_CHECKING:
    import numpy as np

BINS = 10
"""Where nobody says how many."""
Sums = Mapping[int, Sequence[float]]
"""By bin: how many, their sum of what is stated, their sum of what is true."""


def bin_of(stated: float, bins: int = BINS) -> int:
    """The bin of a stated probability; a negative score, which a judge may give, belongs to the first."""
    return min(int(max(stated, 0.0) * bins), bins - 1)


def calibration_error(sums: np.ndarray) -> np.ndarray:
    """The error from (..., B, 3) sums; nan where there is nothing."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(sums[..., 1] - sums[..., 2]).sum(-1) / sums[..., 0].sum(-1))


def sums_by_bin(prompts: Sequence[Sums], bins: int) -> np.ndarray:
    """Each prompt's sums as an array. Shape (N, B, 3)."""
    import numpy as np

    sums_NB3 = np.zeros((len(prompts), bins, 3))
    for number, prompt in enumerate(prompts):
        for place, sums in prompt.items():
            sums_NB3[number, place] = sums
    return sums_NB3


def calibration_interval(prompts: Sequence[Sums], bins: int, seed: int = 0) -> Interval:
    """The error over prompts, by the bootstrap over them; no value where nothing was stated."""
    if not prompts:
        return Interval(None, None, None, 0, "bootstrap")
    return bootstrap_interval(calibration_error, sums_by_bin(prompts, bins), seed)


def calibration_difference(pairs: Sequence[tuple[Sums, Sums]], bins: int, seed: int = 0) -> Interval:
    """The second's error minus the first's on the same prompts, by the bootstrap over prompts."""
    import numpy as np

    if not pairs:
        return Interval(None, None, None, 0, "bootstrap")
    parts_N2B3 = np.stack([sums_by_bin([pair[side] for pair in pairs], bins) for side in (0, 1)], axis=1)

    def difference(sums: np.ndarray) -> np.ndarray:
        errors = calibration_error(sums)
        return np.asarray(errors[..., 1] - errors[..., 0])

    return bootstrap_interval(difference, parts_N2B3, seed)
