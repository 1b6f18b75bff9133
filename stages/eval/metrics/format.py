"""Well-formed completions: share of completions that are one think block followed by an answer."""

from __future__ import annotations

from stages.eval.metrics.base import Metric, Observed, Settings, collect, grade_above
from stages.eval.views import GroupView

_well_formed = grade_above(0.5, "format")


def observe(group: GroupView, settings: Settings) -> Observed | None:
    """1 for a well-formed completion, else 0."""
    return collect(group, _well_formed)


PLUGIN = Metric(
    title="Well-formed completions",
    version=1,
    better="higher",
    rate=True,
    order=60,
    headline=True,
    observe=observe,
)
