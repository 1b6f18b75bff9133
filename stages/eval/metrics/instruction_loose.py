"""Instruction following, loosely: a completion counts when some easy change of its form follows every instruction.

Prompt-level loose accuracy as in IFEval (arXiv:2311.07911): without asterisks, without its first or last line.
"""

from __future__ import annotations

from schemas.scored import Grade
from schemas.verdicts import LOOSELY_FOLLOWED
from stages.eval.metrics.base import Judgement, Metric, Observed, Settings, collect, first_grade
from stages.eval.views import CompletionView, GroupView


def _followed(completion: CompletionView) -> Judgement:
    grade = first_grade(completion, "instruction")
    if not isinstance(grade, Grade):
        return grade
    return float(grade.value == 1.0 or grade.verdict == LOOSELY_FOLLOWED)


def observe(group: GroupView, settings: Settings) -> Observed | None:
    """1 where all instructions are followed in some form, else 0."""
    return collect(group, _followed) if group.label == "instruction" else None


PLUGIN = Metric(
    title="Instruction following, loosely",
    version=1,
    better="higher",
    rate=True,
    order=51,
    headline=False,
    observe=observe,
)
