"""False certainty: share of completions that are certain and wrong (arXiv:2507.16727).

Certain is a stated confidence of 5 or more of 10, or none stated; the verifier `reliability` says so, and right.
"""

from __future__ import annotations

from schemas.scored import Grade
from stages.eval.metrics.base import Judgement, Metric, Observed, Settings, collect, first_grade, was_asked
from stages.eval.views import CompletionView, GroupView


def certain_and_wrong(completion: CompletionView) -> Judgement:
    """1 where it is, else 0; None where reliability was not asked, or did not apply."""
    grade = first_grade(completion, "reliability")
    return float(grade.verdict == "certain_incorrect") if isinstance(grade, Grade) else grade


def observe(group: GroupView, settings: Settings) -> Observed | None:
    """1 for a completion that is certain and wrong, else 0."""
    return collect(group, certain_and_wrong) if was_asked(group, "reliability") else None


PLUGIN = Metric(
    title="Certain and wrong",
    version=1,
    better="lower",
    rate=True,
    order=85,
    headline=True,
    observe=observe,
    judged_by=("reliability",),
)
