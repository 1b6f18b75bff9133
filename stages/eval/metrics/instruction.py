"""Instruction following: share of completions that follow every instruction of their prompt.

Prompt-level strict accuracy as in IFEval (arXiv:2311.07911): all instructions of a prompt, or it does not
count.
"""

from __future__ import annotations

from stages.eval.metrics.base import Metric, Observed, Settings, collect, grade_above
from stages.eval.views import GroupView

# Full means 1, and the bar is strict: it lies just below.
_followed = grade_above(1 - 1e-9, "instruction")


def observe(group: GroupView, settings: Settings) -> Observed | None:
    """1 where the instruction grade is full, else 0."""
    return collect(group, _followed) if group.label == "instruction" else None


PLUGIN = Metric(
    title="Instruction following",
    version=1,
    better="higher",
    rate=True,
    order=50,
    headline=True,
    observe=observe,
)
