"""What the runs came to: table.json, table.md, plots and a page, from whatever runs are complete."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from examples.reproduce import pooled
from examples.reproduce.columns import PROMPTS, Columns, columns
from examples.reproduce.figures import write_figures
from examples.reproduce.variants import Variant
from stages.core.atomic import read_json, write_json
from stages.eval.intervals import mean_interval

_OVER = {
    "seeds": "95 %, Student's t over seeds; differences are paired by seed",
    "prompts": "95 %, over prompts, each the mean of its seeds; differences are paired by prompt",
}
Policies = dict[str, dict[str, dict[int, Any]]]
"""By policy, metric and seed: its value, or with intervals over prompts each prompt's."""


def write_table(chosen: list[Variant], seeds: list[int], runs: Path, shown: Columns | None = None) -> dict[str, Any]:
    """table.json, table.md, the plots and report.html in `runs`; the document that table.json holds.

    `shown` is what the table shows; None: what the thirteen variants of this folder do.
    """
    shown = shown or columns()
    found = {v.name: {s: read_json(p) for s in seeds if (p := _summary(runs, s, v.name)).is_file()} for v in chosen}
    measured = {v.name: _policies(v, found[v.name], shown) for v in chosen if found[v.name]}
    document = {
        "seeds": seeds,
        "interval": _OVER[shown.intervals],
        "missing": [f"{name}, seed {s}" for name, runs_ in found.items() for s in seeds if s not in runs_],
        "variants": {v.name: _entry(v, found[v.name], measured, shown) for v in chosen if v.name in measured},
    }
    runs.mkdir(parents=True, exist_ok=True)
    write_json(runs / "table.json", document)
    text = markdown(document, shown)
    (runs / "table.md").write_text(text, encoding="utf-8")
    write_figures(document, found, runs, shown.tradeoff)
    print(text)
    return document


def _summary(runs: Path, seed: int, name: str) -> Path:
    return runs / f"seed-{seed}" / f"{name}.json"


def _policies(variant: Variant, runs: dict[int, Any], shown: Columns) -> Policies:
    """What the policies of one variant came to."""
    if shown.intervals == PROMPTS:
        return pooled.policies_of(runs, variant.recipe.get("eval", {}), shown)
    names = (*shown.before, "final")
    return {p: {m: {s: run[p][m] for s, run in runs.items()} for m in shown.columns} for p in names}


def _entry(variant: Variant, runs: dict[int, Any], measured: dict[str, Policies], shown: Columns) -> dict[str, Any]:
    spread, difference = (pooled.spread, pooled.difference) if shown.intervals == PROMPTS else (_spread, _difference)
    mine, first = measured[variant.name], next(iter(shown.before))
    entry: dict[str, Any] = {"about": variant.about, "expected": variant.expected, "against": variant.against}
    for policy, by_metric in mine.items():
        entry[policy] = {m: spread(by_seed) for m, by_seed in by_metric.items()}
    entry["gain"] = {m: difference(mine["final"][m], mine[first][m]) for m in shown.columns}
    other = measured.get(variant.against)
    if other and set(runs) & set(next(iter(other["final"].values()))):
        entry["difference"] = {m: difference(mine["final"][m], other["final"][m]) for m in shown.columns}
    # A policy that was measured on several sets of prompts has a table of each.
    names = ("final", *shown.also.get("final", ()))
    asked = [[run["policies"][name] for name in names] for run in runs.values()]
    entry["prompts"] = {
        m: min(max((t[m]["n"] for t in tables if m in t), default=0) for tables in asked) for m in shown.columns
    }
    entry["seconds"] = _spread({s: run["seconds"] for s, run in runs.items()})
    return entry


def _spread(by_seed: dict[int, float]) -> dict[str, Any]:
    interval = mean_interval(list(by_seed.values()))
    return {"mean": interval.value, "low": interval.low, "high": interval.high, "seeds": by_seed}


def _difference(ours: dict[int, float], theirs: dict[int, float]) -> dict[str, Any]:
    """Ours less theirs, of the seeds that both have."""
    return _spread({s: ours[s] - theirs[s] for s in sorted(set(ours) & set(theirs))})


def markdown(document: dict[str, Any], shown: Columns) -> str:
    """The table for people: every variant's end, and what differs from what it is compared with."""
    lines = [
        "| | " + " | ".join(shown.columns.values()) + " |",
        "|---|" + "---|" * len(shown.columns),
    ]
    told = set()
    for name, entry in document["variants"].items():
        for policy, title in shown.before.items():
            # Variants of one model and data share their start: it is one line, told once.
            key = (policy, *sorted(entry[policy][next(iter(shown.columns))]["seeds"].items()))
            if key not in told:
                told.add(key)
                lines.append(_line(f"*{title.format(variant=name)}*", entry[policy], shown))
        lines.append(_line(f"**{name}**", entry["final"], shown))
    lines += ["", *_differences(document, shown)]
    if document["missing"]:
        lines += ["", f"Not there: {'; '.join(document['missing'])}."]
    return "\n".join(lines) + "\n"


def _differences(document: dict[str, Any], shown: Columns) -> Iterable[str]:
    yield "| difference at the end | " + " | ".join(shown.columns.values()) + " |"
    yield "|---|" + "---|" * len(shown.columns)
    for name, entry in document["variants"].items():
        # Where several policies stand above, what the first of them has gained is the question.
        if len(shown.before) > 1:
            yield _line(f"{name} - {next(iter(shown.before.values()))}", entry["gain"], shown, signed=True)
    for name, entry in document["variants"].items():
        if "difference" in entry:
            yield _line(f"{name} - {entry['against']}", entry["difference"], shown, signed=True)


def _line(title: str, cells: dict[str, Any], shown: Columns, *, signed: bool = False) -> str:
    return f"| {title} | " + " | ".join(_cell(cells[m], m not in shown.numbers, signed) for m in shown.columns) + " |"


def _cell(spread: dict[str, Any], rate: bool, signed: bool) -> str:
    """`58.2 [54.2, 62.0]`, rates in percent; bold where a difference excludes zero. `-` where no prompt was asked."""
    if spread["mean"] is None:
        return "-"
    scale, digits = (100, 1) if rate else (1, 2)
    form = f"{'+' if signed else ''}.{digits}f"
    text = format(spread["mean"] * scale, form)
    if spread["low"] is None:
        return text
    text += f" [{format(spread['low'] * scale, form)}, {format(spread['high'] * scale, form)}]"
    return f"**{text}**" if signed and (spread["low"] > 0 or spread["high"] < 0) else text
