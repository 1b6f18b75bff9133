"""Training curves from train runs: each metric of the steps as points that a plot can draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from schemas.steps import StepRow

if TYPE_CHECKING:
    from stages.core.folder import RunFolder

MOST_POINTS = 60

# (title, field of StepRow, what it says)
WHOLE = (
    ("Reward", "reward_mean", "mean over the step's completions"),
    ("Loss", "loss", "the loss that was stepped on"),
    ("Reply length", "completion_length", "mean tokens"),
    ("Entropy", "entropy", "nats a token"),
    ("Clipped tokens", "clip_fraction", "share of tokens with no policy gradient"),
    ("Drift", "drift", "mean drift term"),
    ("KL to the reference", "ref_kl", "nats a token"),
    ("Sampler gap", "sampler_gap", "mean absolute log-prob difference"),
    ("Gradient norm", "grad_norm", "before clipping"),
    ("Cut off by length", "truncated_fraction", "share of completions"),
)
BY_LABEL = (
    ("Reward by label", "reward", "mean reward"),
    ("Unsafe compliance by label", "unsafe_rate", "share of harmful prompts complied with"),
    ("Needless refusal by label", "refusal_rate", "share of benign prompts refused"),
    ("Reply length by label", "length", "mean tokens"),
)


@dataclass(frozen=True, slots=True)
class Series:
    """One line; a gap between segments is a restart of the step count."""

    name: str
    segments: list[list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Chart:
    """One plot of one objective."""

    objective: str
    title: str
    note: str
    series: list[Series]
    by_label: bool
    steps: int
    """The last optimizer step of the objective."""


def charts(folders: Iterable[RunFolder]) -> list[Chart]:
    """All charts with something in them, SFT first; folders in the order given."""
    from schemas.tables import STEPS

    steps: dict[str, list[StepRow]] = {}
    for folder in folders:
        for row in folder.rows(STEPS):
            steps.setdefault(row.objective, []).append(row)
    found = []
    for objective in sorted(steps, key=lambda name: (name != "sft", name)):
        found += _by_label(objective, steps[objective])
        found += _whole(objective, steps[objective])
    return found


def _whole(objective: str, rows: list[StepRow]) -> list[Chart]:
    found = []
    for title, field, note in WHOLE:
        segments = _segments(rows, lambda row, field=field: (getattr(row, field), 1.0))  # type: ignore[misc]
        if segments:
            found.append(Chart(objective, title, note, [Series(title, segments)], False, rows[-1].step))
    return found


def _by_label(objective: str, rows: list[StepRow]) -> list[Chart]:
    labels = sorted({stat.label for row in rows for stat in row.labels})
    found = []
    for title, field, note in BY_LABEL:
        series = []
        for label in labels:

            def value(row: StepRow, label: str = label, field: str = field) -> tuple[float | None, float]:
                stat = next((s for s in row.labels if s.label == label), None)
                return (getattr(stat, field), float(stat.completions)) if stat else (None, 0.0)

            if segments := _segments(rows, value):
                series.append(Series(label, segments))
        if series:
            found.append(Chart(objective, title, note, series, True, rows[-1].step))
    return found


def _segments(
    rows: list[StepRow], value: Callable[[StepRow], tuple[float | None, float]]
) -> list[list[tuple[float, float]]]:
    """Weighted means of runs of steps, at most MOST_POINTS of them; a new segment where steps start again."""
    cuts = [i + 1 for i, (a, b) in enumerate(pairwise(rows)) if b.step <= a.step]
    width = max(1, -(-len(rows) // MOST_POINTS))
    segments = []
    for start, end in pairwise([0, *cuts, len(rows)]):
        points = []
        for first in range(start, end, width):
            bucket = [(row.step, *value(row)) for row in rows[first : min(first + width, end)]]
            known = [(step, v, w) for step, v, w in bucket if v is not None and w > 0]
            if known:
                weight = sum(w for _, _, w in known)
                mean = sum(v * w for _, v, w in known) / weight
                points.append((sum(step for step, _, _ in known) / len(known), mean))
        if points:
            segments.append(points)
    return segments
