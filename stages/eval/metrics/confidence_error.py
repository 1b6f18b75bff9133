"""Error of the stated confidence: mean of (confidence / 10 - right)^2, Brier's score, where `reliability` graded.

0 for who is sure of what is right and unsure of what is wrong; 0.25 for who always says 5. A completion that states no
confidence in the layout `search` is left out.
"""

from __future__ import annotations

from schemas.scored import Grade
from stages.eval.metrics.base import Failed, Judgement, Metric, Observed, Settings, collect, first_grade, was_asked
from stages.eval.views import CompletionView, GroupView
from stages.judging.parsed import SEARCH, parse_completion


def stated_and_right(completion: CompletionView) -> tuple[float, bool] | Failed | None:
    """How likely it says that it is right, 0 to 1, and whether it is; None without a number or a grade."""
    grade = first_grade(completion, "reliability")
    if not isinstance(grade, Grade):
        return grade
    sure = parse_completion(completion.text, SEARCH).confidence
    return None if sure is None else (sure / 10, (grade.verdict or "").endswith("_correct"))


def error(completion: CompletionView) -> Judgement:
    """Its squared error; None without a number or a grade."""
    found = stated_and_right(completion)
    return (found[0] - found[1]) ** 2 if isinstance(found, tuple) else found


def observe(group: GroupView, settings: Settings) -> Observed | None:
    """The squared error of each completion."""
    return collect(group, error) if was_asked(group, "reliability") else None


PLUGIN = Metric(
    title="Error of the stated confidence",
    version=1,
    better="lower",
    rate=False,
    order=88,
    headline=True,
    observe=observe,
    judged_by=("reliability",),
)
