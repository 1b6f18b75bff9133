"""What an advantage plugin is: what a rollout's groups earned in, advantages of the same shape out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

Values = list[list[float | None]]
"""values[x][k]: a number of completion k of prompt x; None where nothing could be judged."""
Advantages = list[list[float | None]]
"""The same shape; where the reward is None so is the advantage, and that completion is left out of the loss."""
Carried = dict[str, float]
"""What estimators keep from one rollout to the next, and from one run to the next."""

FLAT = 1e-9
"""Rewards of a group that differ by no more than this are equal."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One rollout as an estimator sees it; the lists are of one shape."""

    rewards: Values
    lengths: list[list[int]] = field(default_factory=list)
    """Generated tokens of each completion."""
    costs: Values = field(default_factory=list)
    """1 for a completion that the safety verifier calls unsafe, 0 for another; None where it did not judge."""
    right: Values = field(default_factory=list)
    """The value of the task's own term of each reward; None where it has none."""
    settings: Any = None
    """An instance of the plugin's `settings`; None where it has none."""
    carried: Carried = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AdvantagePlugin:
    """An estimator by its version and its function over one rollout's groups."""

    version: int
    advantages: Callable[[Batch], Advantages]
    settings: type[Any] | None = None
    """A frozen dataclass of `option` fields: the table `[train.advantages.NAME]`; None where it has none."""
    carry: Callable[[Batch], Carried] | None = None
    """What it keeps, brought up to date with this rollout; `advantages` is then called with that."""
    cost_weight: str | None = None
    """Which of what it keeps is the price of a cost; a step's row tells it."""


def estimate(plugin: AdvantagePlugin, batch: Batch) -> tuple[Advantages, Carried]:
    """The rollout's advantages, and what is carried on to the next one: also what other estimators left there."""
    if plugin.carry is not None:
        batch = replace(batch, carried=batch.carried | plugin.carry(batch))
    return plugin.advantages(batch), batch.carried


def known(values_G: list[float | None]) -> list[float]:
    """The values that exist."""
    return [v for v in values_G if v is not None]


def mean(values: list[float]) -> float:
    """Mean of at least one value, by an exact sum."""
    return math.fsum(values) / len(values)


def is_flat(values_G: list[float | None]) -> bool:
    """Nothing can be learned of this group alone: all values equal, or fewer than two known."""
    values = known(values_G)
    return len(values) < 2 or max(values) - min(values) <= FLAT


def centred(values_G: list[float | None], weight: float = 1.0) -> list[float | None]:
    """weight * (v_k - mean v); exactly 0 throughout a flat group."""
    # Exactly 0, and not v - mean: what rounding leaves of it may be as large as 1 once it is divided by a deviation of
    # 0 + 1e-9.
    if is_flat(values_G):
        return [None if v is None else 0.0 for v in values_G]
    middle = mean(known(values_G))
    return [None if v is None else weight * (v - middle) for v in values_G]


def std(values_G: list[float | None]) -> float:
    """Unbiased standard deviation of the known values; 0 for fewer than two."""
    values = known(values_G)
    if len(values) < 2:
        return 0.0
    middle = mean(values)
    return math.sqrt(math.fsum((v - middle) ** 2 for v in values) / (len(values) - 1))


def clamped(advantages: Advantages, limit: float) -> Advantages:
    """Advantages limited to +-limit; 0 means no limit. ValueError for one that is no finite number.

    min and max return either argument where one is NaN: it would come out as the largest advantage there is.
    """
    for value in (a for group in advantages for a in group if a is not None and not math.isfinite(a)):
        raise ValueError(f"an advantage is {value}")
    if limit <= 0:
        return advantages
    return [[None if a is None else max(-limit, min(limit, a)) for a in group] for group in advantages]
