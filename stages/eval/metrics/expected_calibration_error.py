"""Calibration error of the stated confidence: over bins of it, how far its mean lies from the share that is right.

Weighed with the completions of each bin (Naeini et al. 2015), where `reliability` graded; `[eval] calibration_bins`, by
label, task and family. 0 for who is right as often as it says, even where Brier's score (`confidence_error`) is high
because it never knows. A completion that states no confidence in the layout `search` is left out.
"""

from __future__ import annotations

from stages.eval.metrics.base import FAILED, NOT_DECIDED, Metric, Observed, Settings, was_asked
from stages.eval.metrics.confidence_error import stated_and_right
from stages.eval.views import GroupView


def observe(group: GroupView, settings: Settings) -> Observed | None:
    """Whether each completion is right, and how likely it says that is."""
    if not was_asked(group, "reliability"):
        return None
    found = [FAILED if c.finish_reason == "error" else stated_and_right(c) for c in group.completions]
    pairs = [pair for pair in found if isinstance(pair, tuple)]
    failed, undecided = found.count(FAILED), found.count(NOT_DECIDED)
    if not (pairs or failed or undecided):
        return None
    return Observed([float(right) for _, right in pairs], failed, undecided, stated=[stated for stated, _ in pairs])


PLUGIN = Metric(
    title="Calibration error of the stated confidence",
    version=1,
    better="lower",
    rate=False,
    order=88,
    headline=True,
    observe=observe,
    judged_by=("reliability",),
    calibration=True,
)
