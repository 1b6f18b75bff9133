"""Supported steps: of the steps that say something to look up, the share that stands in what was read or seen.

Steps as `step_support` graded them, by rule or by the judge of that name; a step in part supported counts as its grade.
"""

from __future__ import annotations

from schemas.scored import OK, UNDECIDED, counting
from stages.eval.metrics.base import Metric, Observed, Settings, was_asked
from stages.eval.views import GroupView

VERIFIER = "step_support"


def observe(group: GroupView, settings: Settings) -> Observed | None:
    """The sum of each completion's step grades, and how many they are."""
    if not was_asked(group, VERIFIER):
        return None
    values, sizes, failed, undecided = [], [], 0, 0
    for completion in group.completions:
        grade = counting(completion.grades, VERIFIER)
        if completion.finish_reason == "error" or (grade is not None and grade.failed):
            failed += 1
        elif grade is not None and grade.status == UNDECIDED:
            undecided += 1
        elif grade is not None and grade.status == OK:
            own = [step.value for step in grade.steps or [] if step.value is not None]
            values.append(sum(own))
            sizes.append(float(len(own)))
    return Observed(values, failed, undecided, sizes) if values or failed or undecided else None


PLUGIN = Metric(
    title="Supported steps",
    version=1,
    better="higher",
    rate=True,
    order=89,
    headline=True,
    observe=observe,
    judged_by=(VERIFIER,),
    ratio=True,
)
