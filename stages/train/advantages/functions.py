"""Advantages that are plain functions of one group's rewards.

    def best_only(rewards_G: list[float | None]) -> list[float | None]: ...

A reward is None where nothing could be judged, and so is its advantage.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from stages.core.errors import CosmoError
from stages.train.advantages.base import AdvantagePlugin, Advantages, Batch

Group = list[float | None]


def adapt(name: str, plugin: Any) -> Any:
    """An estimator; TypeError for a function of something else. Anything but a function is taken as it is."""
    if not inspect.isfunction(plugin):
        return plugin
    parameters = list(inspect.signature(plugin).parameters)
    if len(parameters) != 1:
        raise TypeError(f"{name} takes {', '.join(parameters) or 'nothing'}; an advantage takes one group's rewards")

    def advantages(batch: Batch) -> Advantages:
        return [_of_group(name, plugin, rewards_G) for rewards_G in batch.rewards]

    return AdvantagePlugin(version=1, advantages=advantages)


def _of_group(name: str, function: Callable[[Group], Group], rewards_G: Group) -> Group:
    """One group's advantages; CosmoError for another shape and for what is no finite number."""
    found_G = list(function(list(rewards_G)))
    if len(found_G) != len(rewards_G):
        raise CosmoError(
            f"the advantage {name} gave {len(found_G)} values for {len(rewards_G)} rewards", "one for each"
        )
    if any(a is not None and not math.isfinite(a) for a in found_G):
        raise CosmoError(f"the advantage {name} gave {found_G!r:.80}", "each must be a finite number, or None")
    # What nobody could judge stays out of the loss.
    return [None if reward is None or a is None else float(a) for reward, a in zip(rewards_G, found_G, strict=True)]
