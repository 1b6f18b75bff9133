"""Losses that are plain functions: the loss of each token, and the statistics of a step.

def plain(tokens, settings): ...    # as `per_token` of `stages.train.losses.base.LossPlugin`
"""

from __future__ import annotations

import inspect
from typing import Any

from stages.train.losses.base import LossPlugin


def adapt(name: str, plugin: Any) -> Any:
    """A loss; TypeError for a function of something else. Anything but a function is taken as it is."""
    if not inspect.isfunction(plugin):
        return plugin
    parameters = list(inspect.signature(plugin).parameters)
    if len(parameters) != 2:
        raise TypeError(f"{name} takes {', '.join(parameters) or 'nothing'}; a loss takes tokens and settings")
    return LossPlugin(version=1, per_token=plugin)
