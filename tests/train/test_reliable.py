"""Reliability's price: lambda by hand over ten rollouts, the advantage by its formula, and lagrangian's other costs."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.scored import Grade
from stages.core.errors import InputError, UsageError
from stages.core.registry import load
from stages.train.advantages.base import Advantages, Batch, Carried, estimate
from stages.train.advantages.lagrangian import LagrangianSettings
from stages.train.advantages.reliable import LAMBDA, ReliableSettings

VERDICTS = {"cr": "certain_correct", "cw": "certain_incorrect", "ur": "uncertain_correct", "uw": "uncertain_incorrect"}


def reliability(word: str) -> Grade | None:
    if word == "-":
        return None
    value = float(word in ("cr", "uw"))
    return Grade(name="reliability", version=1, value=value, status="ok", verdict=VERDICTS[word])


def form(value: float) -> Grade:
    return Grade(name="format", version=1, value=value, status="ok")


def run(
    rewards: list[list[float | None]],
    says: list[str],
    forms: list[list[float]] | None = None,
    carried: Carried | None = None,
    settings: Any = None,
) -> tuple[Advantages, Carried]:
    grades = {
        "reliability": [[reliability(word) for word in group.split()] for group in says],
        "format": [[form(v) for v in group] for group in forms or [[1.0] * len(g) for g in rewards]],
    }
    batch = Batch(rewards, settings=settings or ReliableSettings(), carried=carried or {}, grades=grades)
    return estimate(load("advantage", "reliable"), batch)


# (certain and wrong of four, lambda after), bound 0.05, rate 0.5, start 0.1: by hand, lambda * e^(0.5 (n / 4 - 0.05)).
STEPS = [
    (4, 0.160801), (4, 0.258571), (3, 0.36693), (3, 0.520698), (2, 0.652082),
    (1, 0.720662), (1, 0.796455), (0, 0.77679), (0, 0.757611), (0, 0.738906),
]  # fmt: skip


def test_ten_steps_of_the_dual_ascent() -> None:
    carried: Carried = {}
    for wrong, expected in STEPS:
        says = " ".join(["cw"] * wrong + ["cr"] * (4 - wrong))
        _, carried = run([[0.0, 1.0, 0.0, 1.0]], [says], carried=carried)
        assert carried == {LAMBDA: pytest.approx(expected, abs=1e-6)}
    # It stays between 0.01 and 10.
    _, low = run([[0.0, 1.0]], ["cr cr"], carried={LAMBDA: 0.0101}, settings=ReliableSettings(bound=1.0))
    _, high = run([[0.0, 1.0]], ["cw cw"], carried={LAMBDA: 9.9}, settings=ReliableSettings(bound=0.0))
    assert (low, high) == ({LAMBDA: 0.01}, {LAMBDA: 10.0})


def test_the_advantage_is_that_of_the_reward_with_its_priced_reliability() -> None:
    fixed = ReliableSettings(rate=0.0, start=0.5)
    found, _ = run([[1.0, 0.1, 0.1, 0.0]], ["cr cw uw uw"], [[1.0, 1.0, 1.0, 0.0]], settings=fixed)
    # 1 + 0.5, 0.1, 0.1 + 0.5, and without its form nothing: the mean is 0.55.
    assert found == [pytest.approx([0.95, -0.45, 0.05, -0.55])]
    # Equal rewards, one of them honest about it; what was not judged keeps its reward, and no reward no advantage.
    assert run([[0.1, 0.1]], ["cw uw"], settings=fixed)[0] == [pytest.approx([-0.25, 0.25])]
    assert run([[1.0, 0.0, None]], ["- cw cr"], settings=fixed)[0] == [pytest.approx([0.5, -0.5, None])]


def test_what_was_never_judged_is_an_error() -> None:
    with pytest.raises(InputError, match="reliability judged no completion") as caught:
        run([[0.0, 1.0]], ["- -"])
    assert "also" in caught.value.hint


def test_a_cost_may_be_any_verifiers_verdicts() -> None:
    plugin = load("advantage", "lagrangian")
    settings = LagrangianSettings(bound=0.25, lr=0.5, start=1.0, cost="reliability", verdicts=["certain_incorrect"])
    assert plugin.reads(settings) == ("reliability",)
    grades = {"reliability": [[reliability(word) for word in ("cw", "cr", "uw", "-")]]}
    unsafe = [[0.0, 1.0, 1.0, 1.0]]
    found, carried = estimate(plugin, Batch([[1.0, 1.0, 1.0, 1.0]], costs=unsafe, settings=settings, grades=grades))
    # One of three that were judged; the safety verifier's costs are not looked at.
    assert carried == {"lagrangian.lambda": pytest.approx(1.0 + 0.5 * (1 / 3 - 0.25))}
    price = carried["lagrangian.lambda"]
    assert found == [pytest.approx([-price * (2 / 3) / (1 + price), *[price / 3 / (1 + price)] * 2, 0.0])]
    with pytest.raises(UsageError, match="cost and verdicts together"):
        LagrangianSettings(cost="reliability")
