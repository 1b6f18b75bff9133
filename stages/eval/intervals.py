"""95 % intervals for rates, means and paired differences, with prompts as the sampling unit.

Completions of one prompt are not independent, so everything starts from prompt means (clustered standard
errors: Miller, "Adding Error Bars to Evals", arXiv:2411.00640, section 3). For rates the normal interval
around those means fails exactly where safety metrics live, at 0 of n: it has width zero. Rates therefore get
Wilson's score interval, with the effective sample size of the clustered design in place of n (Korn and
Graubard 1998; Dean and Pagano, "Evaluating confidence interval methods for binomial proportions in clustered
surveys", 2015). With one completion a prompt that is plain Wilson.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval; `low` and `high` are None where the data can't give one."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Prompts it rests on."""
    method: str


def _z() -> float:
    # scipy takes long to import, and a cached run needs no interval.
    from scipy.special import ndtri

    return float(ndtri(0.5 + LEVEL / 2))


def _t(df: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + LEVEL / 2))


def wilson(successes: float, n: float, quantile: float | None = None) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927), n > 0; n may be an effective size."""
    q = _z() if quantile is None else quantile
    p = successes / n
    spread = q * math.sqrt(p * (1 - p) / n + q * q / (4 * n * n))
    centre, scale = p + q * q / (2 * n), 1 + q * q / n
    low, high = (centre - spread) / scale, (centre + spread) / scale
    # At the ends the formula gives the end itself but for rounding.
    return (0.0 if p == 0 else max(0.0, low)), (1.0 if p == 1 else min(1.0, high))


def effective_size(means_N: Sequence[float], completions: int) -> float:
    """How many independent completions would give the variance that the prompt means show.

    Between the number of prompts (completions of a prompt all agree) and the number of completions.
    Where every completion agrees nothing tells the two apart, and the smaller is taken.
    """
    n = len(means_N)
    p = math.fsum(means_N) / n
    variance = math.fsum((m - p) ** 2 for m in means_N) / n
    if p <= 0 or p >= 1:
        return float(n)
    if variance == 0:
        return float(completions)
    # p (1 - p) is the variance of one completion, so p (1 - p) / variance is how many of them a prompt's mean is worth.
    return min(max(n * p * (1 - p) / variance, float(n)), float(completions))


def rate_interval(means_N: Sequence[float], completions: int) -> Interval:
    """A rate over prompts, from each prompt's mean in [0, 1]."""
    n = len(means_N)
    if n == 0:
        return Interval(None, None, None, 0, "wilson")
    value = math.fsum(means_N) / n
    if completions == n:
        return Interval(value, *wilson(value * n, n), n, "wilson")
    if n == 1:
        # One prompt says nothing about other prompts, however often it was sampled.
        return Interval(value, 0.0, 1.0, 1, "wilson_clustered")
    size = effective_size(means_N, completions)
    # Student's t in place of the normal quantile: the size was estimated from n prompts.
    return Interval(value, *wilson(value * size, size, _t(n - 1)), n, "wilson_clustered")


def ratio_interval(hits_N: Iterable[float], sizes_N: Iterable[float]) -> Interval:
    """A rate over completions, from each prompt's hits and size: all hits by all sizes, prompts still the unit.

    Where `rate_interval` weighs prompts alike, this weighs completions alike, as a table of counts does. The
    effective size comes from the linearised variance of a ratio; with one completion a prompt it is Wilson.
    """
    counted = [(float(h), float(s)) for h, s in zip(hits_N, sizes_N, strict=True) if s > 0]
    n, total = len(counted), math.fsum(s for _, s in counted)
    if n == 0:
        return Interval(None, None, None, 0, "wilson")
    value = math.fsum(h for h, _ in counted) / total
    if total == n:
        return Interval(value, *wilson(value * n, n), n, "wilson")
    if n == 1:
        return Interval(value, 0.0, 1.0, 1, "wilson_clustered")
    size = float(n)
    if 0 < value < 1:
        # The delta method: residuals of hits from value times size, by the total squared, with Bessel's factor for
        # prompts.
        variance = math.fsum((h - value * s) ** 2 for h, s in counted) / total**2 * n / (n - 1)
        size = min(max(value * (1 - value) / variance, size), total) if variance else total
    return Interval(value, *wilson(value * size, size, _t(n - 1)), n, "wilson_clustered")


def bootstrap_interval(
    statistic: Callable[[np.ndarray], np.ndarray], parts_N: np.ndarray, seed: int, draws: int = 1000
) -> Interval:
    """A statistic of sums over prompts, from each prompt's part (N, ...): the percentile bootstrap over prompts.

    `statistic` maps sums (..., and a leading axis of draws) to one number each.
    """
    import numpy as np

    n = len(parts_N)
    value = float(statistic(parts_N.sum(0)))
    # NaN where the statistic is not defined, and then no draw would mend it.
    if not math.isfinite(value):
        return Interval(None, None, None, 0, "bootstrap")
    if n == 1:
        return Interval(value, None, None, 1, "bootstrap")
    generator = np.random.default_rng(seed)
    flat_NK = parts_N.reshape(n, -1)
    drawn: list[np.ndarray] = []
    # A few draws at a time: their weights are as many numbers as there are prompts.
    for start in range(0, draws, 50):
        # Drawing n prompts with replacement is a multinomial count a prompt: sums follow by one product.
        weights_DN = generator.multinomial(n, np.full(n, 1 / n), size=min(50, draws - start))
        drawn.append(statistic((weights_DN @ flat_NK).reshape(-1, *parts_N.shape[1:])))
    found = np.concatenate(drawn)
    # A draw may miss a verdict altogether and have no F1; such draws are left out.
    low, high = np.nanquantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high), n, "bootstrap")


def mean_interval(means_N: Sequence[float]) -> Interval:
    """A mean over prompts, from each prompt's mean: Student's t on the prompt means."""
    n = len(means_N)
    if n == 0:
        return Interval(None, None, None, 0, "clustered_t")
    value = math.fsum(means_N) / n
    if n == 1:
        return Interval(value, None, None, 1, "clustered_t")
    half = _t(n - 1) * math.sqrt(_variance(means_N, value) / n)
    return Interval(value, value - half, value + half, n, "clustered_t")


def _variance(values_N: Sequence[float], mean: float) -> float:
    return math.fsum((v - mean) ** 2 for v in values_N) / (len(values_N) - 1)


def paired_rate_difference(differences_N: Sequence[float]) -> Interval:
    """Mean paired difference of two rates, from each common prompt's difference of means in [-1, 1].

    Bonett and Price's adjusted interval for paired proportions (2012): one made-up prompt that moved up
    and one that moved down are added, which keeps the interval honest where nothing, or everything, moved.
    """
    n = len(differences_N)
    if n == 0:
        return Interval(None, None, None, 0, "bonett_price")
    # The 2 of m and of the second moment are the made-up prompts: one moved by +1, one by -1, whose sum is 0.
    m = n + 2
    centre = math.fsum(differences_N) / m
    second_moment = (math.fsum(d * d for d in differences_N) + 2) / m
    half = _z() * math.sqrt(max(0.0, second_moment - centre * centre) / m)
    value = math.fsum(differences_N) / n
    return Interval(value, max(-1.0, centre - half), min(1.0, centre + half), n, "bonett_price")


def mcnemar(up: int, down: int) -> float:
    """Two-sided p of McNemar's exact test (1947): of the pairs that moved, as many up as down.

    The binomial probability of a split as uneven as this one or more so. Where a prompt has several completions its
    mean moves, and the same count is the sign test. 1 where nothing moved.
    """
    from scipy.special import bdtr

    return min(1.0, 2.0 * float(bdtr(min(up, down), up + down, 0.5)))


def paired_mean_difference(differences_N: Sequence[float]) -> Interval:
    """Mean paired difference of two means: Student's t on the prompt differences (arXiv:2411.00640, 4.2)."""
    found = mean_interval(differences_N)
    return Interval(found.value, found.low, found.high, found.n, "paired_t")
