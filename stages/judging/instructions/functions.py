"""Instruction checks from outside: a plain function, a `Check` with an id of its own, or a family of them."""

from __future__ import annotations

import inspect
from typing import Any

from stages.judging.instructions.base import Check, Checks

FUNCTION_VERSION = 1
"""Raised when a function would be called with something else."""


def adapt(name: str, plugin: Any) -> Checks:
    """A family; of a plain function the family of this one check, called `name`. TypeError for what can't be one."""
    if isinstance(plugin, Checks):
        return plugin
    if isinstance(plugin, Check):
        return Checks(FUNCTION_VERSION, {plugin.id: plugin})
    if not callable(plugin) or inspect.isclass(plugin) or inspect.iscoroutinefunction(plugin):
        raise TypeError(f"{plugin!r:.60} is no function, no Check and no Checks")
    return Checks(FUNCTION_VERSION, {name: plugin})
