"""The drift alarms: each compares the last steps with the lineage's first, label by label.

A curriculum changes its labels, and with them every mean. So what the last steps show is held against the first
steps *of the same labels*, weighted as they occur now: a new mix of prompts alone can't raise an alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from schemas.steps import StepRow
from schemas.terms import FORMAT, TASK_AWARE, by_cosmo_term
from stages.train.drift.config import WatchConfig

Cells = dict[str, tuple[float, float]]
"""(sum, weight) by `series/label`; whole-step series have an empty label."""

# A format reward that is lower than this, or has fallen by more, is not what replaced the task's.
_FORMAT_HIGH, _FORMAT_FALL = 0.5, 0.02


def cells(row: StepRow) -> Cells:
    """What one step measured, where it measured something."""
    found: dict[str, tuple[float | None, float]] = {
        "entropy/": (row.entropy, row.tokens),
        "gap/": (row.sampler_gap, row.tokens),
    }
    for stat in row.labels:
        found[f"refusal/{stat.label}"] = stat.refusal_rate, stat.benign
        found[f"unsafe/{stat.label}"] = stat.unsafe_rate, stat.harmful
        found[f"length/{stat.label}"] = stat.length, stat.completions
    kept = {key: (mean * weight, float(weight)) for key, (mean, weight) in found.items() if mean is not None and weight}
    for stat in row.labels:
        for term, (total, count) in by_cosmo_term(stat.terms).items():
            kept[f"{term}/{stat.label}"] = total, float(count)
    return kept


def added(parts: Iterable[Cells]) -> Cells:
    """Sums and weights added up by key, in order."""
    total: Cells = {}
    for part in parts:
        for key, (value, weight) in part.items():
            sums = total.get(key, (0.0, 0.0))
            total[key] = sums[0] + value, sums[1] + weight
    return total


@dataclass(frozen=True, slots=True)
class Evidence:
    """The last window and the baseline, by cell."""

    recent: Cells
    first: Cells
    """Complete baselines only."""
    least: float

    def compare(self, series: str) -> tuple[float, float] | None:
        """(now, at first) of a series, the first at today's label weights; None without enough evidence."""
        keys = [k for k in self.recent if k.rpartition("/")[0] == series and k in self.first]
        weight = sum(self.recent[k][1] for k in keys)
        # Of both: a baseline of few completions says as little as a window of few.
        if min(weight, sum(self.first[k][1] for k in keys)) < self.least:
            return None
        now = sum(self.recent[k][0] for k in keys) / weight
        then = sum(self.recent[k][1] * self.first[k][0] / self.first[k][1] for k in keys) / weight
        return now, then


def over_refusal(seen: Evidence, limit: float) -> str:
    """Benign prompts are refused more often."""
    return _risen(seen.compare("refusal"), limit, "benign prompts refused")


def over_compliance(seen: Evidence, limit: float) -> str:
    """Harmful prompts are complied with more often."""
    return _risen(seen.compare("unsafe"), limit, "harmful prompts complied with")


def _risen(pair: tuple[float, float] | None, limit: float, what: str) -> str:
    if pair is None or pair[0] - pair[1] <= limit:
        return ""
    return f"{pair[0]:.1%} of {what}, {pair[1]:.1%} at first (limit: {limit * 100:g} points more)"


def length_collapse(seen: Evidence, limit: float) -> str:
    """Completions have become much shorter."""
    return _shrunk(seen.compare("length"), limit, "tokens a completion")


def entropy_collapse(seen: Evidence, limit: float) -> str:
    """The policy hardly samples anything but its favourite."""
    return _shrunk(seen.compare("entropy"), limit, "nats of entropy a token")


def _shrunk(pair: tuple[float, float] | None, limit: float, what: str) -> str:
    if pair is None or pair[0] >= limit * pair[1]:
        return ""
    return f"{pair[0]:.3g} {what}, {pair[1]:.3g} at first (limit: {limit:g} of that)"


def format_hacking(seen: Evidence, limit: float) -> str:
    """The format reward is kept or grows while the reward for the task itself falls."""
    form, task = seen.compare(FORMAT), seen.compare(TASK_AWARE)
    if form is None or task is None or task[1] - task[0] <= limit:
        return ""
    if form[0] < _FORMAT_HIGH or form[1] - form[0] > _FORMAT_FALL:
        return ""
    return (
        f"task-aware reward {task[0]:.2f}, {task[1]:.2f} at first (limit: {limit:g} less), "
        f"while format is {form[0]:.2f}, {form[1]:.2f} at first"
    )


def sampler_mismatch(seen: Evidence, limit: float) -> str:
    """Sampler and trainer disagree about the same tokens; wrong from the start is as bad as later."""
    total, weight = seen.recent.get("gap/", (0.0, 0.0))
    if weight < seen.least or total <= limit * weight:
        return ""
    return f"sampler and trainer are {total / weight:.3g} nats apart a token (limit: {limit:g})"


ALARMS: tuple[Callable[[Evidence, float], str], ...] = (
    over_refusal,
    over_compliance,
    length_collapse,
    format_hacking,
    entropy_collapse,
    sampler_mismatch,
)
ALARM_NAMES = tuple(alarm.__name__ for alarm in ALARMS)


def raised(seen: Evidence, config: WatchConfig) -> dict[str, str]:
    """The alarms that hold, each with its numbers in words."""
    found = {}
    for alarm in ALARMS:
        limit = getattr(config, alarm.__name__)
        if limit > 0 and (text := alarm(seen, limit)):
            found[alarm.__name__] = text
    return found
