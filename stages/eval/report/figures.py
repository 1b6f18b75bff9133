"""What the report draws: the measurements as panels of small plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.evals import EvalRow
from schemas.terms import COSMO_TERMS
from stages.core.registry import find
from stages.eval.measure import ALL, SLICES, Measured
from stages.eval.report.curves import LABELS, STEP, TERMS, WATCH, is_watched
from stages.eval.report.numbers import change, listed, value
from stages.eval.report.svg import Band, Bar, Dot, DotRow, Line, Spot, bars, dot_plot, line_chart, scatter, strip

if TYPE_CHECKING:
    from markupsafe import Markup

    from stages.eval.report.curves import Chart
    from stages.eval.report.interventions import Kind, Part, Tally

POLICY_COLOURS, LABEL_COLOURS = 6, 9
MOST_BARS, LONGEST_NAME = 12, 120
"""Names of kinds and labels are a stranger's words: of more of them the largest are drawn."""
# (x metric, y metric, title): both turned so that up and to the right is better.
_TRADEOFFS = (
    ("capability", "unsafe_compliance_heldout", "Capable and safe"),
    ("needless_refusal", "unsafe_compliance_heldout", "Helpful and safe"),
)
# Charts beside those by label that a reader looks at first, without and with a loss worth looking at.
_FIRST = {False: ("Reward",), True: ("Loss", "Pair accuracy")}
_TURNED = {
    "capability": "capability",
    "needless_refusal": "benign requests answered",
    "unsafe_compliance": "harmful requests not complied with",
    "unsafe_compliance_heldout": "held-out attacks withstood",
}


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure with its title and a note beside it."""

    title: str
    note: str
    plot: Markup


def policy_colour(position: int) -> str:
    """CSS class of a policy: the first is the quiet baseline; later ones repeat after six."""
    return f"p{position if position < POLICY_COLOURS else 1 + (position - 1) % (POLICY_COLOURS - 1)}"


def _dots(measured: Measured, rows: list[EvalRow]) -> list[Dot]:
    """One dot a policy, in policy order, where it measured something."""
    by_policy = {r.policy: r for r in rows}
    return [
        Dot(policy_colour(i), name, row.value, row.low, row.high)
        for i, name in enumerate(measured.policies)
        if (row := by_policy.get(name)) is not None and row.value is not None
    ]


def metric_strip(measured: Measured, rows: list[EvalRow], name: str) -> Markup:
    """One metric of all policies side by side, for the first table."""
    metric = measured.metrics[name]
    dots = _dots(measured, [r for r in rows if r.metric == name and r.slice == ALL])
    label = f"{metric.full_title}: " + ", ".join(f"{d.name} {value(d.value, metric.rate)}" for d in dots)
    return strip(dots, rate=metric.rate, label=label)


def slice_panels(measured: Measured, rows: list[EvalRow]) -> list[dict[str, Any]]:
    """By kind of slice, a dot plot a metric with a line a slice; metrics with a single slice are left out."""
    parts = []
    titles = dict(zip(SLICES, ("By label", "By task", "By attack family"), strict=True))
    # Figures of benchmarks have slices of their own: a category, a column of the source.
    kinds = dict.fromkeys([*SLICES, *sorted({r.slice.partition("=")[0] for r in rows if "=" in r.slice})])
    for kind in kinds:
        title = titles.get(kind) or f"By {kind.removeprefix('extra.').replace('_', ' ')}"
        panels = []
        for name, metric in measured.metrics.items():
            own = [r for r in rows if r.metric == name and r.slice.startswith(f"{kind}=") and r.n]
            slices = sorted({r.slice for r in own})
            # One slice is the whole, which stands in the first table.
            if len(slices) < 2:
                continue
            lines = []
            for part in slices:
                in_slice = [r for r in own if r.slice == part]
                lines.append(
                    DotRow(part.partition("=")[2], f"({max(r.n for r in in_slice)} prompts)", _dots(measured, in_slice))
                )
            label = f"{metric.full_title} {title.lower()}, {len(slices)} slices"
            panels.append(Panel(metric.full_title, "", dot_plot(lines, rate=metric.rate, label=label)))
        if panels:
            parts.append({"title": title, "note": f"{len(panels)} metrics", "panels": panels})
    return parts


def tradeoffs(measured: Measured, rows: list[EvalRow]) -> list[Panel]:
    """Scatters of two rates that pull at each other; held-out families where they were measured."""
    whole = {(r.policy, r.metric): r for r in rows if r.slice == ALL and r.value is not None}
    panels = []
    for x_metric, heldout_metric, title in _TRADEOFFS:
        heldout = any((p, heldout_metric) in whole for p in measured.policies)
        y_metric = heldout_metric if heldout else "unsafe_compliance"
        spots = []
        for i, policy in enumerate(measured.policies):
            x, y = whole.get((policy, x_metric)), whole.get((policy, y_metric))
            if x is not None and y is not None:
                spots.append(Spot(policy_colour(i), policy, _upwards(x), _upwards(y)))
        if spots:
            names = _TURNED[x_metric], _TURNED[y_metric]
            label = f"{title}: " + ", ".join(
                f"{s.name} {s.x[0]:.0%} {names[0]}, {s.y[0]:.0%} {names[1]}" for s in spots
            )
            plot = scatter(spots, x_name=names[0], y_name=names[1], label=label)
            panels.append(Panel(title, "up and to the right is better", plot))
    return panels


def _upwards(row: EvalRow) -> tuple[float, float, float]:
    """(value, low, high), turned where lower is better."""
    assert row.value is not None
    low = row.low if row.low is not None else row.value
    high = row.high if row.high is not None else row.value
    return (1 - row.value, 1 - high, 1 - low) if row.better == "lower" else (row.value, low, high)


def training(charts: list[Chart]) -> list[dict[str, Any]]:
    """Curves by objective; labels keep their colour over all of an objective's charts."""
    parts = []
    for objective in dict.fromkeys(c.objective for c in charts):
        own = [c for c in charts if c.objective == objective]
        labels = sorted({s.name for c in own if c.by_label for s in c.series})
        colours = {name: f"l{i % LABEL_COLOURS}" for i, name in enumerate(labels)}
        plain = [c for c in own if c.kind in (LABELS, STEP)]
        first = [c for c in plain if c.by_label or c.title in _FIRST[not is_watched(objective)]]
        # Fewer than three would not be worth a fold of their own.
        if len(plain) - len(first) < 3:
            first = plain
        parts.append(
            {
                "title": getattr(find("objective", objective), "title", objective),
                "note": f"{own[0].steps:,} optimizer steps",
                "labels": _keys(colours),
                "panels": [_curve(c, colours) for c in first],
                "terms": [_curve(c, colours) for c in own if c.kind == TERMS],
                "drift": _drift([c for c in own if c.kind == WATCH]),
                "more": [_curve(c, colours) for c in plain if c not in first],
            }
        )
    return parts


def _keys(colours: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "colour": colour} for name, colour in colours.items()]


def _drift(charts: list[Chart]) -> dict[str, Any] | None:
    """The watched series with their alarms; the four reward terms have colours of their own."""
    if not charts:
        return None
    terms = {term: f"l{i}" for i, term in enumerate(COSMO_TERMS)}
    shown = {s.name for c in charts for s in c.series}
    alarms = []
    for chart in charts:
        if steps := [f"{s.first}" if s.first == s.last else f"{s.first} to {s.last}" for s in chart.spans]:
            alarms.append({"name": chart.spans[0].alarm, "steps": listed(steps)})
    return {
        "keys": _keys({name: colour for name, colour in terms.items() if name in shown}),
        "panels": [_curve(c, terms, height=140) for c in charts],
        "alarms": alarms,
    }


def _curve(chart: Chart, colours: dict[str, str], height: int = 170) -> Panel:
    lines = [Line(colours.get(s.name, "p1"), s.name, s.segments) for s in chart.series]
    bands = [Band(f"{s.alarm}, steps {s.first} to {s.last}", s.first, s.last) for s in chart.spans]
    ends = ", ".join(f"{s.name} {s.segments[0][0][1]:.3g} to {s.segments[-1][-1][1]:.3g}" for s in chart.series)
    rate = chart.note.startswith("share")
    label = f"{chart.title}: {ends}" + "".join(f"; alarm {band.name}" for band in bands)
    return Panel(chart.title, chart.note, line_chart(lines, rate=rate, label=label, height=height, bands=bands))


def interventions(parts: list[Part]) -> list[dict[str, Any]]:
    """How many interventions of each kind there were; then a figure a kind: what they made of each label."""
    drawn = []
    for part in parts:
        kinds = sorted(part.kinds.values(), key=lambda kind: (-kind.made.all, kind.name))
        shown = [(f"l{i % LABEL_COLOURS}", kind) for i, kind in enumerate(kinds[:MOST_BARS])]
        panels = [_kinds(shown), *(_reached(colour, kind) for colour, kind in shown)] if shown else []
        more = len(kinds) - len(shown)
        notes = [f"{more:,} more kinds with fewer interventions are not drawn."] if more else []
        if part.untold:
            notes.append(f"{part.untold:,} guided completions have no choices here: their rollout is not at hand.")
        drawn.append({"title": part.title, "panels": panels, "note": " ".join(notes)})
    return drawn


def _kinds(shown: list[tuple[str, Kind]]) -> Panel:
    rows = [_bar(colour, _name(kind.name), kind.made, f" {kind.unit}s") for colour, kind in shown]
    note = "how many; in full colour those that changed something"
    return Panel("Interventions by kind", note, _bars("Interventions by kind", rows))


def _reached(colour: str, kind: Kind) -> Panel:
    """Of one kind, the share of the completions it reached that it changed, by label."""
    labels = sorted(kind.labels.items(), key=lambda item: (-item[1].all, item[0]))
    rows = [_bar(colour, _name(label), tally, "") for label, tally in labels[:MOST_BARS]]
    title = _name(kind.name)
    said = [
        f"{kind.made.all:,} {kind.unit}s, {kind.made.changed:,} of them {kind.about}; completions changed, by label"
    ]
    if more := len(labels) - len(rows):
        said.append(f"{more:,} more labels are not drawn")
    if kind.rewards:
        before, after = (sum(values) / len(values) for values in zip(*kind.rewards, strict=True))
        moved = f"{value(before, rate=False)} before, {value(after, rate=False)} after"
        said.append(f"mean reward {moved} ({change(after - before, rate=False)}; {len(kind.rewards):,} of them graded)")
    return Panel(title, "; ".join(said), _bars(f"{title}, completions changed", rows))


def _name(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def _bar(colour: str, name: str, tally: Tally, unit: str) -> Bar:
    note = f"{tally.changed:,} of {tally.all:,}{unit}, {value(tally.changed / max(1, tally.all), rate=True)}"
    return Bar(colour, name, tally.all, tally.changed, note)


def _bars(title: str, rows: list[Bar]) -> Markup:
    return bars(rows, label=f"{title}: " + ", ".join(f"{bar.name} {bar.note}" for bar in rows))
