"""Metrics that are plain functions of one completion.

    def exclaims(completion) -> float | bool | None: ...

The completion is a `stages.eval.views.CompletionView`: `text`, `tokens`, `reward`, `grades` by verifier. None: it does
not apply. The mean of a prompt is its value, as in every metric; the docstring's first line is the
title. Booleans make it a rate, where the function's return type is `bool`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from stages.core.errors import CosmoError
from stages.eval.metrics.base import FAILED, NOT_DECIDED, Judgement, Metric, Observed, Settings, collect
from stages.eval.views import CompletionView, GroupView

LAST = 1000
"""Where it stands in tables: behind the built-in ones."""


def adapt(name: str, plugin: Any) -> Any:
    """A metric; TypeError for a function of something else. Anything but a function is taken as it is."""
    if not inspect.isfunction(plugin):
        return plugin
    parameters = list(inspect.signature(plugin).parameters)
    if len(parameters) != 1:
        raise TypeError(f"{name} takes {', '.join(parameters) or 'nothing'}; a metric takes one completion")
    judge = _checked(name, plugin)

    def observe(group: GroupView, settings: Settings) -> Observed | None:
        return collect(group, judge)

    # Where annotations are postponed, `bool` is its text.
    rate = plugin.__annotations__.get("return") in (bool, "bool")
    title = (inspect.getdoc(plugin) or name).partition("\n")[0].rstrip(".")
    return Metric(title=title, version=1, better="neither", rate=rate, order=LAST, headline=True, observe=observe)


def _checked(name: str, function: Callable[[CompletionView], Any]) -> Callable[[CompletionView], Judgement]:
    """The function with its value looked at: a finite number, None, or a CosmoError that names both."""

    def judge(completion: CompletionView) -> Judgement:
        value = function(completion)
        if value is None or value in (FAILED, NOT_DECIDED):
            return value
        # NumPy's and torch's scalars are no int or float to `isinstance`.
        number = value.item() if getattr(value, "ndim", None) == 0 else value
        if not isinstance(number, int | float) or not math.isfinite(number):
            raise CosmoError(f"the metric {name} gave {value!r:.60}", "it must be a finite number, or None")
        return float(number)

    return judge
