"""Reward: mean reward of the label's recipe; read it by label, for recipes differ between labels."""

from __future__ import annotations

from stages.eval.metrics.base import FAILED, Judgement, Metric, Observed, Settings, collect
from stages.eval.views import CompletionView, GroupView


def _reward(completion: CompletionView) -> Judgement:
    return FAILED if completion.reward is None else completion.reward


def observe(group: GroupView, settings: Settings) -> Observed | None:
    """The stored reward; a completion without one counts as failed."""
    return collect(group, _reward)


PLUGIN = Metric(
    title="Reward", version=1, better="higher", rate=False, order=70, headline=False, observe=observe
)
