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
from collections.abc import Sequence
from dataclasses import dataclass

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
    return Interval(value, *wilson(value * size, size, _t(n - 1)), n, "wilson_clustered")


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
    m = n + 2
    centre = math.fsum(differences_N) / m
    second_moment = (math.fsum(d * d for d in differences_N) + 2) / m
    half = _z() * math.sqrt(max(0.0, second_moment - centre * centre) / m)
    value = math.fsum(differences_N) / n
    return Interval(value, max(-1.0, centre - half), min(1.0, centre + half), n, "bonett_price")


def paired_mean_difference(differences_N: Sequence[float]) -> Interval:
    """Mean paired difference of two means: Student's t on the prompt differences (arXiv:2411.00640, 4.2)."""
    found = mean_interval(differences_N)
    return Interval(found.value, found.low, found.high, found.n, "paired_t")
