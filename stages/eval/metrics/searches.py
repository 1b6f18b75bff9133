"""Searches a completion: how often it looks something up, on rows that `reliability` graded.

Counted are its own actions, in the layout `search`; a completion that is out of form counts as far as it kept it.
"""

from __future__ import annotations

from stages.eval.metrics.base import Judgement, Metric, Observed, Settings, collect, was_asked
from stages.eval.views import CompletionView, GroupView
from stages.judging.parsed import SEARCH, parse_completion


def searches(completion: CompletionView) -> Judgement:
    """How many searches; None where reliability was not asked."""
    if "reliability" not in completion.grades:
        return None
    return float(sum(kind == "search" for kind, _ in parse_completion(completion.text, SEARCH).actions))


def observe(group: GroupView, settings: Settings) -> Observed | None:
    """The number of searches of each completion."""
    return collect(group, searches) if was_asked(group, "reliability") else None


PLUGIN = Metric(title="Searches", version=1, better="neither", rate=False, order=95, headline=True, observe=observe)
