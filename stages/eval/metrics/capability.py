"""Right answers: share of completions graded right on rows that have a reference and are no safety rows.

A row counts when it has a reference answer, is neither harmful nor a benign twin, and its label has no metric
of its own (safety, jailbreak, instruction). Its grade is the first of `answer`, `knowledge`, `knowledge_confidence`,
`value` that applied, and it is right when that grade is above 0.5, so a half-right answer is not right.
"""

from __future__ import annotations

from stages.eval.metrics.base import SAFETY_LABELS, Metric, Observed, Settings, collect, grade_above
from stages.eval.views import GroupView

ELSEWHERE = SAFETY_LABELS | {"instruction"}
_GRADES = ("answer", "knowledge", "knowledge_confidence", "value")
_right = grade_above(0.5, *_GRADES)


def observe(group: GroupView, settings: Settings) -> Observed | None:
    """1 for a right completion, else 0."""
    if group.answer is None or group.harmful is not None or group.label in ELSEWHERE:
        return None
    return collect(group, _right)


PLUGIN = Metric(
    title="Capability",
    version=1,
    better="higher",
    rate=True,
    order=10,
    headline=True,
    observe=observe,
    judged_by=_GRADES,
    bare=True,
)
