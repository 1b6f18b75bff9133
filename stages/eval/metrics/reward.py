"""Reward: mean reward of the label's formula; read it by label, for formulas differ between labels."""

from __future__ import annotations

from stages.eval.metrics.base import FAILED, Judgement, Metric, Observed, Settings, collect
from stages.eval.views import CompletionView, GroupView


def _reward(completion: CompletionView) -> Judgement:
    if completion.reward is not None:
        return completion.reward
    # Without a failed grade no term applied, and the row says nothing.
    failed = any(g.failed for g in completion.grades.values())
    return FAILED if failed else None


def observe(group: GroupView, settings: Settings) -> Observed | None:
    """The stored reward; one that is missing because a grade failed counts as failed."""
    return collect(group, _reward)


PLUGIN = Metric(title="Reward", version=1, better="higher", rate=False, order=70, headline=False, observe=observe)
