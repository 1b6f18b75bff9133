"""Intervals against published values, and their coverage by simulation."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.eval.intervals import (
    effective_size,
    mean_interval,
    paired_mean_difference,
    paired_rate_difference,
    rate_interval,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_is_symmetric_and_holds_the_estimate(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low))


def test_one_completion_a_prompt_is_plain_wilson() -> None:
    found = rate_interval([1.0] * 81 + [0.0] * 182, 263)
    assert found.method == "wilson"
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=6e-5)


def test_effective_size_lies_between_prompts_and_completions() -> None:
    agreeing = [1.0] * 30 + [0.0] * 70
    assert effective_size(agreeing, 400) == pytest.approx(100)
    assert effective_size([0.5] * 100, 400) == 400
    assert effective_size([0.0] * 100, 400) == 100


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60))
def test_clustering_never_narrows_below_independent_completions(rights: list[int]) -> None:
    means = [r / 4 for r in rights]
    found = rate_interval(means, 4 * len(means))
    low, high = wilson(sum(rights), 4 * len(means))
    assert found.low is not None
    assert found.high is not None
    assert found.low <= low + 1e-12
    assert found.high >= high - 1e-12


def test_repeated_samples_of_one_prompt_say_nothing_about_others() -> None:
    found = rate_interval([0.75], 8)
    assert (found.value, found.low, found.high) == (0.75, 0.0, 1.0)
    assert mean_interval([3.0]).low is None


def test_nothing_measured_is_none() -> None:
    assert rate_interval([], 0).value is None
    assert mean_interval([]).value is None
    assert paired_rate_difference([]).value is None


def test_t_interval_known_value() -> None:
    # Mean 5, standard deviation 2.5820, t(3) = 3.1824.
    found = mean_interval([2.0, 4.0, 6.0, 8.0])
    assert (found.low, found.high) == pytest.approx((5 - 4.1085, 5 + 4.1085), abs=1e-3)


def test_bonett_price_formula() -> None:
    # Bonett and Price (2012): add one to each discordant count and two to n, then the Wald interval.
    moved = [1.0] * 1 + [-1.0] * 9 + [0.0] * 9
    p12, p21, n = 2 / 21, 10 / 21, 21
    half = 1.959964 * ((p12 + p21 - (p12 - p21) ** 2) / n) ** 0.5
    found = paired_rate_difference(moved)
    assert found.value == pytest.approx(-8 / 19)
    assert (found.low, found.high) == pytest.approx((p12 - p21 - half, p12 - p21 + half), abs=1e-6)


def test_no_change_still_has_a_width() -> None:
    found = paired_rate_difference([0.0] * 50)
    assert found.low is not None
    assert found.low < 0 < (found.high or 0)


def _prompts(rng: random.Random, n: int, g: int, p: float, spread: float) -> list[float]:
    """n prompt means of g completions; each prompt's own rate is beta with mean p; small spread = alike."""
    rates = [rng.betavariate(p * spread, (1 - p) * spread) for _ in range(n)]
    return [sum(rng.random() < rate for _ in range(g)) / g for rate in rates]


@pytest.mark.parametrize("p", [0.03, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("spread", [0.3, 3.0, 100.0])
def test_clustered_rate_coverage(p: float, spread: float) -> None:
    rng = random.Random(f"{p}{spread}")
    runs, hits = 1200, 0
    for _ in range(runs):
        found = rate_interval(_prompts(rng, 80, 4, p, spread), 320)
        hits += (found.low or 0) <= p <= (found.high or 0)
    # Plain Wilson dips to 0.92 where few successes are expected; 0.91 leaves that and the simulation's noise.
    assert 0.91 <= hits / runs <= 0.995


def test_ignoring_clusters_would_undercover() -> None:
    """The very failure the clustered interval is there for."""
    rng = random.Random(5)
    hits = 0
    for _ in range(400):
        means = _prompts(rng, 80, 4, 0.5, 0.3)
        low, high = wilson(sum(means) * 4, 320)
        hits += low <= 0.5 <= high
    assert hits / 400 < 0.8


@pytest.mark.parametrize("g", [1, 4])
@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_paired_rate_coverage(g: int, shift: float) -> None:
    rng = random.Random(f"{g}{shift}")
    runs, hits = 1200, 0
    for _ in range(runs):
        moved = []
        for _ in range(60):
            rate = rng.betavariate(1.0, 2.0) * (1 - shift)
            before = sum(rng.random() < rate for _ in range(g)) / g
            after = sum(rng.random() < rate + shift for _ in range(g)) / g
            moved.append(after - before)
        found = paired_rate_difference(moved)
        hits += (found.low or 0) <= shift <= (found.high or 0)
    assert 0.925 <= hits / runs <= 0.999


def test_pairing_is_narrower_than_two_separate_intervals() -> None:
    rng = random.Random(1)
    before = [float(rng.random() < 0.5) for _ in range(200)]
    after = [b if rng.random() < 0.9 else 1.0 for b in before]
    paired = paired_rate_difference([a - b for a, b in zip(after, before, strict=True)])
    one = rate_interval(before, 200)
    assert paired.high is not None
    assert paired.low is not None
    assert one.high is not None
    assert one.low is not None
    assert paired.high - paired.low < 0.7 * (one.high - one.low) * 2**0.5


def test_paired_mean_difference_is_a_t_interval() -> None:
    found = paired_mean_difference([1.0, 2.0, 3.0])
    assert found.value == pytest.approx(2.0)
    assert found.method == "paired_t"
