"""Completion length: mean tokens of a completion, thinking included."""

from __future__ import annotations

from stages.eval.metrics.base import Metric, Observed, Settings, collect
from stages.eval.views import GroupView


def observe(group: GroupView, settings: Settings) -> Observed | None:
    """Generated tokens of each completion; nothing of one made elsewhere, whose tokens are not known."""
    # What a policy sampled has one at the least: the one that ends it.
    return collect(group, lambda completion: float(completion.tokens) or None)


PLUGIN = Metric(
    title="Completion length", version=1, better="neither", rate=False, order=80, headline=True, observe=observe
)
