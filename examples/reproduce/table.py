"""What the runs came to: table.json, table.md, two plots and a page, from whatever runs are complete."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from examples.reproduce.figures import write_figures
from examples.reproduce.variants import Variant
from stages.core.atomic import read_json, write_json
from stages.eval.intervals import mean_interval

METRICS = {
    "capability": "right answers",
    "unsafe_compliance": "unsafe, trained families",
    "unsafe_compliance_heldout": "unsafe, held-out families",
    "needless_refusal": "needless refusals",
    "instruction": "instructions followed",
    "reward": "reward",
    "completion_length": "tokens a completion",
}
RATES = frozenset(METRICS) - {"reward", "completion_length"}


def write_table(chosen: list[Variant], seeds: list[int], runs: Path) -> dict[str, Any]:
    """table.json, table.md, the plots and report.html in `runs`; the document that table.json holds."""
    found = {v.name: {s: read_json(p) for s in seeds if (p := _summary(runs, s, v.name)).is_file()} for v in chosen}
    document = {
        "seeds": seeds,
        "interval": "95 %, Student's t over seeds; differences are paired by seed",
        "missing": [f"{name}, seed {s}" for name, runs_ in found.items() for s in seeds if s not in runs_],
        "variants": {v.name: _entry(v, found) for v in chosen if found[v.name]},
    }
    runs.mkdir(parents=True, exist_ok=True)
    write_json(runs / "table.json", document)
    text = markdown(document)
    (runs / "table.md").write_text(text, encoding="utf-8")
    write_figures(document, found, runs)
    print(text)
    return document


def _summary(runs: Path, seed: int, name: str) -> Path:
    return runs / f"seed-{seed}" / f"{name}.json"


def _entry(variant: Variant, found: dict[str, dict[int, Any]]) -> dict[str, Any]:
    mine = found[variant.name]
    entry: dict[str, Any] = {"about": variant.about, "expected": variant.expected, "against": variant.against}
    for policy in ("start", "final"):
        entry[policy] = {m: _spread({s: run[policy][m] for s, run in mine.items()}) for m in METRICS}
    entry["gain"] = {m: _spread({s: r["final"][m] - r["start"][m] for s, r in mine.items()}) for m in METRICS}
    other = found.get(variant.against, {})
    both = sorted(set(mine) & set(other))
    if both:
        entry["difference"] = {
            m: _spread({s: mine[s]["final"][m] - other[s]["final"][m] for s in both}) for m in METRICS
        }
    entry["prompts"] = {m: min(run["policies"]["final"][m]["n"] for run in mine.values()) for m in METRICS}
    entry["seconds"] = _spread({s: run["seconds"] for s, run in mine.items()})
    return entry


def _spread(by_seed: dict[int, float]) -> dict[str, Any]:
    interval = mean_interval(list(by_seed.values()))
    return {"mean": interval.value, "low": interval.low, "high": interval.high, "seeds": by_seed}


def markdown(document: dict[str, Any]) -> str:
    """The table for people: every variant's end, and what differs from what it is compared with."""
    names = list(METRICS)
    lines = [
        "| | " + " | ".join(METRICS[m] for m in names) + " |",
        "|---|" + "---|" * len(names),
    ]
    starts = {}
    for name, entry in document["variants"].items():
        # Variants of one model and data share their start: it is one line, told once.
        key = tuple(sorted(entry["start"]["capability"]["seeds"].items()))
        if key not in starts:
            starts[key] = name
            lines.append(_line(f"*SFT start of {name}*", entry["start"], names))
        lines.append(_line(f"**{name}**", entry["final"], names))
    lines += ["", *_differences(document, names)]
    if document["missing"]:
        lines += ["", f"Not there: {'; '.join(document['missing'])}."]
    return "\n".join(lines) + "\n"


def _differences(document: dict[str, Any], names: list[str]) -> Iterable[str]:
    yield "| difference at the end | " + " | ".join(METRICS[m] for m in names) + " |"
    yield "|---|" + "---|" * len(names)
    for name, entry in document["variants"].items():
        if "difference" in entry:
            yield _line(f"{name} - {entry['against']}", entry["difference"], names, signed=True)


def _line(title: str, cells: dict[str, Any], names: list[str], *, signed: bool = False) -> str:
    return f"| {title} | " + " | ".join(_cell(cells[m], m in RATES, signed) for m in names) + " |"


def _cell(spread: dict[str, Any], rate: bool, signed: bool) -> str:
    """`58.2 [54.2, 62.0]`, rates in percent; bold where a difference excludes zero."""
    scale, digits = (100, 1) if rate else (1, 2)
    form = f"{'+' if signed else ''}.{digits}f"
    text = format(spread["mean"] * scale, form)
    if spread["low"] is None:
        return text
    text += f" [{format(spread['low'] * scale, form)}, {format(spread['high'] * scale, form)}]"
    return f"**{text}**" if signed and (spread["low"] > 0 or spread["high"] < 0) else text
