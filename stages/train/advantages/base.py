"""What an advantage plugin is: rewards of a rollout's groups in, advantages of the same shape out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Rewards = list[list[float | None]]
"""rewards[x][k]: the reward of completion k of prompt x; None where nothing could be judged."""
Advantages = list[list[float | None]]
"""The same shape; None stays None, and that completion is left out of the loss."""

FLAT = 1e-9
"""Rewards of a group that differ by no more than this are equal."""


@dataclass(frozen=True, slots=True)
class AdvantagePlugin:
    """An estimator by its version and its function over one rollout's groups."""

    version: int
    advantages: Callable[[Rewards], Advantages]


def known(rewards_G: list[float | None]) -> list[float]:
    """The rewards that exist."""
    return [r for r in rewards_G if r is not None]


def is_flat(rewards_G: list[float | None]) -> bool:
    """No advantage can come of this group: all rewards equal, or fewer than two known."""
    values = known(rewards_G)
    return len(values) < 2 or max(values) - min(values) <= FLAT


def centred(rewards_G: list[float | None], weight: float = 1.0) -> list[float | None]:
    """weight * (R_k - mean R); exactly 0 throughout a flat group."""
    values = known(rewards_G)
    if is_flat(rewards_G):
        return [None if r is None else 0.0 for r in rewards_G]
    mean = math.fsum(values) / len(values)
    return [None if r is None else weight * (r - mean) for r in rewards_G]


def std(rewards_G: list[float | None]) -> float:
    """Unbiased standard deviation of the known rewards; 0 for fewer than two."""
    values = known(rewards_G)
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def clamped(advantages: Advantages, limit: float) -> Advantages:
    """Advantages held within +-limit; 0 means no limit."""
    if limit <= 0:
        return advantages
    return [[None if a is None else max(-limit, min(limit, a)) for a in group] for group in advantages]
