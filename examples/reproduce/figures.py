"""The plots of the comparison, as SVG files that stand alone, and the page that shows them with the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from examples.reproduce.columns import Tradeoff
from schemas.steps import StepRow
from schemas.tables import STEPS
from stages.core.runs.folder import RunFolder
from stages.eval.report import svg

_PAGE = Path(svg.__file__).parent
_COLOURS = ("#2563b4", "#c2661a", "#17784a", "#b9362b", "#7d51b0", "#16838a", "#a8456b", "#8a7a1c", "#7b8490")
_BINS = 20


def write_figures(document: dict[str, Any], found: dict[str, dict[int, Any]], runs: Path, shown: Tradeoff) -> None:
    """tradeoff.svg, refusal.svg, length.svg and report.html."""
    figures = {"tradeoff": drawn} if (drawn := _tradeoff(document, shown)) else {}
    steps = {name: [_steps(run) for run in by_seed.values()] for name, by_seed in found.items() if by_seed}
    for name, what in (("refusal", _refusal), ("length", _length)):
        if lines := _curves(steps, what):
            figures[name] = svg.line_chart(lines, rate=name == "refusal", label=f"{name} over training", height=260)
    for name, image in figures.items():
        (runs / f"{name}.svg").write_text(_alone(image), encoding="utf-8")
    template = Environment(autoescape=True).from_string(
        (Path(__file__).parent / "report.html.jinja").read_text("utf-8")
    )
    css = Markup((_PAGE / "report.css").read_text(encoding="utf-8"))
    colours = {name: _colour(i) for i, name in enumerate(document["variants"])}
    html = template.render(document=document, figures=figures, css=css, colours=colours)
    (runs / "report.html").write_text(html, encoding="utf-8")


def _colour(position: int) -> str:
    return f"l{position % len(_COLOURS)}"


def _tradeoff(document: dict[str, Any], shown: Tradeoff) -> Markup | None:
    """What is wanted to the right and upwards: seeds' means with their range; None where nothing was asked."""
    spots: list[svg.Spot] = []
    if not document["variants"]:
        return None
    first = next(iter(document["variants"].values()))
    for colour, name, policy in [
        ("l8", "SFT start", first["start"]),
        *(
            (_colour(i), name, e["final"])
            for i, (name, e) in enumerate(document["variants"].items())
            # Other models have starts of their own: the table has them.
            if e["start"][shown.x]["seeds"] == first["start"][shown.x]["seeds"]
        ),
    ]:
        if not policy[shown.x]["seeds"] or not policy[shown.y]["seeds"]:
            continue
        x, y = (_point(policy[m]) for m in (shown.x, shown.y))
        spots.append(svg.Spot(colour, name, x, (1 - y[0], 1 - y[2], 1 - y[1]) if shown.y_turned else y))
    if not spots:
        return None
    return svg.scatter(spots, x_name=shown.x_name, y_name=shown.y_name, label="capability against safety, by variant")


def _point(spread: dict[str, Any]) -> tuple[float, float, float]:
    """The mean with its range over seeds: with three seeds, t intervals are wider than the plot."""
    values = spread["seeds"].values()
    return spread["mean"], min(values), max(values)


def _steps(run: dict[str, Any]) -> list[StepRow]:
    """The RL steps behind a run's summary, in order; none where its folders are gone."""
    if not run["metrics"] or not Path(run["metrics"]).is_dir():
        return []
    metrics = RunFolder.open(Path(run["metrics"]))
    rows = []
    for path in metrics.config["training"]:
        # The folders lie beside each other, wherever they were moved to together.
        beside = metrics.path.parent / Path(path).name
        rows += [r for r in RunFolder.open(beside).rows(STEPS) if r.objective == "rl"]
    return rows


def _refusal(row: StepRow) -> float | None:
    told = [(s.refusal_rate, s.completions) for s in row.labels if s.refusal_rate is not None]
    total = sum(n for _, n in told)
    return sum(rate * n for rate, n in told) / total if total else None


def _length(row: StepRow) -> float | None:
    return row.completion_length


def _curves(steps: dict[str, list[list[StepRow]]], what: Any) -> list[svg.Line]:
    """One line a variant: the mean over seeds, training cut into equal parts so that lengths can be compared."""
    lines = []
    for position, (name, by_seed) in enumerate(steps.items()):
        bins: dict[int, list[float]] = {}
        for rows in by_seed:
            last = max((row.step for row in rows), default=0)
            for row in rows:
                if (value := what(row)) is not None:
                    bins.setdefault(int(_BINS * (row.step - 1) / last), []).append(value)
        points = [((b + 1) / _BINS, sum(v) / len(v)) for b, v in sorted(bins.items())]
        if points:
            lines.append(svg.Line(_colour(position), name, [points]))
    return lines


def _alone(image: Markup) -> str:
    """The plot as a file: with a name space, colours and a ground, which a page would give it."""
    colours = "".join(f".l{i}{{--c:{c}}}" for i, c in enumerate(_COLOURS))
    style = (
        "text{font:11px system-ui,sans-serif;fill:#1d2127}.tick,.axis{fill:#68707b}.grid{stroke:#ebe9e4}"
        ".line{fill:none;stroke:var(--c);stroke-width:1.8}circle{fill:var(--c)}"
        ".trail{stroke:#68707b;stroke-dasharray:2 3}.leader{stroke:var(--c);stroke-width:.8;opacity:.6}"
        f".whisker{{stroke:var(--c);stroke-width:2;opacity:.5}}{colours}"
    )
    text = str(image)
    head, rest = text.split(">", 1)
    name_space = "" if "xmlns" in head else ' xmlns="http://www.w3.org/2000/svg"'
    return f"{head}{name_space}><style>{style}</style><rect width='100%' height='100%' fill='#ffffff'/>{rest}"
