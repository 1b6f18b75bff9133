"""Training curves from train runs: each metric of the steps as points that a plot can draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, Protocol

from schemas.steps import LabelStat, StepRow, TermStat
from schemas.terms import COSMO_TERMS, by_cosmo_term
from stages.core.registry import find

if TYPE_CHECKING:
    from schemas.tables import Table

# More points than that lie on each other at the plot's width.
MOST_POINTS = 60

# (title, field of StepRow, what it says)
STEP_CHARTS = (
    ("Reward", "reward_mean", "mean over the step's completions"),
    ("Loss", "loss", "the loss that was stepped on"),
    ("Completion length", "completion_length", "mean tokens"),
    ("Entropy", "entropy", "nats a token"),
    ("Clipped tokens", "clip_fraction", "share of tokens with no policy gradient"),
    ("Drift", "drift", "mean drift term"),
    ("KL to the reference", "ref_kl", "nats a token"),
    ("Sampler gap", "sampler_gap", "mean absolute log-prob difference"),
    ("Pair accuracy", "pair_accuracy", "share of pairs ordered as their rewards"),
    ("Pair margin", "pair_margin", "mean difference between a pair's two completions"),
    ("Gradient norm", "grad_norm", "before clipping"),
    ("Cut off by length", "truncated_fraction", "share of completions"),
)
BY_LABEL = (
    ("Reward by label", "reward", "mean reward"),
    ("Unsafe compliance by label", "unsafe_rate", "share of harmful prompts complied with"),
    ("Needless refusal by label", "refusal_rate", "share of benign prompts refused"),
    ("Completion length by label", "length", "mean tokens"),
)
# What the drift watch looks at: (title, what it says, the alarm about it), in the order of its plots.
WATCHED = (
    ("Needless refusal", "share of benign prompts refused", "over_refusal"),
    ("Unsafe compliance", "share of harmful prompts complied with", "over_compliance"),
    ("Reward terms", "mean grade of the four terms", "format_hacking"),
    ("Completion length", "mean tokens", "length_collapse"),
    ("Entropy", "nats a token", "entropy_collapse"),
    ("Sampler gap", "mean absolute log-prob difference", "sampler_mismatch"),
    ("Clipped tokens", "share of tokens with no policy gradient", ""),
    ("Drift", "mean drift term", ""),
)
LABELS, TERMS, WATCH, STEP = "labels", "terms", "watch", "step"

Point = tuple[float | None, float]
"""(value, weight) of one step."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line; a gap between segments is a restart of the step count."""

    name: str
    segments: list[list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Span:
    """Steps in a row at which an alarm held."""

    alarm: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Chart:
    """One plot of one objective."""

    objective: str
    title: str
    note: str
    series: list[Series]
    kind: str
    """labels (a line a label), terms (the same, of one reward term), watch, or step."""
    steps: int
    """The last optimizer step of the objective."""
    spans: list[Span] = field(default_factory=list)
    """Where the alarm about it held."""

    @property
    def by_label(self) -> bool:
        """Whether its lines are labels."""
        return self.kind in (LABELS, TERMS)


class HasRows(Protocol):
    """A run folder, or what has its rows and more."""

    def rows(self, table: Table) -> Iterable[Any]:
        """Its rows of a table, in order."""


def charts(folders: Iterable[HasRows]) -> list[Chart]:
    """All charts with something in them, those of prompts alone (SFT) first; folders in the order given."""
    from schemas.tables import PROMPTS, STEPS

    steps: dict[str, list[StepRow]] = {}
    for folder in folders:
        for row in folder.rows(STEPS):
            steps.setdefault(row.objective, []).append(row)
    found = []
    # SFT comes before what starts from it, whatever the names are.
    for objective in sorted(steps, key=lambda name: (not learns_from(name, PROMPTS), name)):
        rows = steps[objective]
        watched = _watched(objective, rows) if is_watched(objective) else []
        seen = {chart.title for chart in watched}
        found += [*_by_label(objective, rows), *_by_term(objective, rows), *watched]
        found += [chart for chart in _by_step(objective, rows) if chart.title not in seen]
    return found


def learns_from(name: str, table: Table) -> bool:
    """Whether rows of this table are enough for the objective; False for one that is not installed."""
    return table in getattr(find("objective", name), "reads", ())


def is_watched(name: str) -> bool:
    """Whether the drift alarms look at the objective's steps; False for one that is not installed."""
    return bool(getattr(find("objective", name), "watched", False))


def _by_step(objective: str, rows: list[StepRow]) -> list[Chart]:
    found = []
    for title, name, note in STEP_CHARTS:
        if segments := _segments(rows, _of_step(name)):
            found.append(Chart(objective, title, note, [Series(title, segments)], STEP, rows[-1].step))
    return found


def _of_step(name: str) -> Callable[[StepRow], Point]:
    return lambda row: (getattr(row, name), 1.0)


def _by_label(objective: str, rows: list[StepRow]) -> list[Chart]:
    found = []
    for title, name, note in BY_LABEL:
        if series := _label_series(rows, lambda stat, name=name: (getattr(stat, name), float(stat.completions))):  # type: ignore[misc]
            found.append(Chart(objective, title, note, series, LABELS, rows[-1].step))
    return found


def _by_term(objective: str, rows: list[StepRow]) -> list[Chart]:
    found = []
    for term in COSMO_TERMS:
        if series := _label_series(rows, lambda stat, term=term: _term(stat.terms, term)):  # type: ignore[misc]
            title = f"{term.capitalize()} by label"
            found.append(Chart(objective, title, "mean grade", series, TERMS, rows[-1].step))
    return found


def _label_series(rows: list[StepRow], value: Callable[[LabelStat], Point]) -> list[Series]:
    """A line a label that has the value anywhere."""

    def of(label: str) -> Callable[[StepRow], Point]:
        return lambda row: next((value(s) for s in row.labels if s.label == label), (None, 0.0))

    labels = sorted({stat.label for row in rows for stat in row.labels})
    return [Series(label, segments) for label in labels if (segments := _segments(rows, of(label)))]


def _term(stats: list[TermStat], term: str) -> Point:
    total, count = by_cosmo_term(stats).get(term, (0.0, 0))
    return (total / count if count else None), float(count)


def _watched(objective: str, rows: list[StepRow]) -> list[Chart]:
    found = []
    for title, note, alarm in WATCHED:
        series = [Series(name, segments) for name, value in _WATCH[title] if (segments := _segments(rows, value))]
        if series:
            found.append(Chart(objective, title, note, series, WATCH, rows[-1].step, spans(rows, alarm)))
    return found


def _pooled(rate: str, judged: str) -> Callable[[StepRow], Point]:
    """A rate over all labels of a step, each weighted by how many completions were judged."""

    def value(row: StepRow) -> Point:
        known = [(getattr(s, rate), getattr(s, judged)) for s in row.labels if getattr(s, rate) is not None]
        weight = sum(n for _, n in known)
        return (sum(v * n for v, n in known) / weight if weight else None), float(weight)

    return value


def _of_term(term: str) -> Callable[[StepRow], Point]:
    return lambda row: _term(row.terms, term)


_WATCH: dict[str, list[tuple[str, Callable[[StepRow], Point]]]] = {
    "Needless refusal": [("Needless refusal", _pooled("refusal_rate", "benign"))],
    "Unsafe compliance": [("Unsafe compliance", _pooled("unsafe_rate", "harmful"))],
    "Reward terms": [(term, _of_term(term)) for term in COSMO_TERMS],
    **{title: [(title, _of_step(name))] for title, name, _ in STEP_CHARTS},
}


def spans(rows: list[StepRow], alarm: str) -> list[Span]:
    """The runs of steps at which the alarm held."""
    found = []
    for raised, steps in groupby(rows, key=lambda row: alarm in row.alarms):
        if raised:
            here = [row.step for row in steps]
            found.append(Span(alarm, here[0], here[-1]))
    return found


def _segments(rows: list[StepRow], value: Callable[[StepRow], Point]) -> list[list[tuple[float, float]]]:
    """Weighted means of runs of steps, at most MOST_POINTS of them; a new segment where steps start again."""
    # A step that is not larger than the one before belongs to another lineage: no line goes from one to the other.
    cuts = [i + 1 for i, (a, b) in enumerate(pairwise(rows)) if b.step <= a.step]
    width = max(1, -(-len(rows) // MOST_POINTS))
    segments = []
    for start, end in pairwise([0, *cuts, len(rows)]):
        points = []
        for first in range(start, end, width):
            bucket = [(row.step, *value(row)) for row in rows[first : min(first + width, end)]]
            known = [(step, v, w) for step, v, w in bucket if v is not None and w > 0]
            if known:
                # Weighted by completions: a step with few of a label says little of it.
                weight = sum(w for _, _, w in known)
                mean = sum(v * w for _, v, w in known) / weight
                points.append((sum(step for step, _, _ in known) / len(known), mean))
        if points:
            segments.append(points)
    return segments
