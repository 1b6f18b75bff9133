"""report.html: one self-contained file. Words in it come from models, so everything is escaped.

A content security policy in the page allows no network and no script but its own, as a second lock.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.evals import NOT_JUDGED, EvalRow
from stages.core.registry import summary
from stages.eval.agreement import Agreement, section
from stages.eval.compare import BETTER, DIFFERENT, UNCLEAR, WORSE, Difference
from stages.eval.config import EvalConfig
from stages.eval.judges import judge_lines
from stages.eval.measure import ALL, Measured
from stages.eval.paired import paired_table
from stages.eval.report import figures
from stages.eval.report import numbers as wording
from stages.eval.report.lineage import ancestors, run_line
from stages.eval.table import asked_rows, undecided_share

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder
    from stages.eval.report.curves import Chart
    from stages.eval.report.interventions import Part
    from stages.eval.report.sample import Card

_PAGE = Path(__file__).parent
_TONES = {BETTER: "good", WORSE: "bad", UNCLEAR: "unclear", DIFFERENT: "plain"}


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything the report shows."""

    config: EvalConfig
    measured: Measured
    rows: list[EvalRow]
    changes: list[Difference]
    charts: list[Chart]
    cards: list[Card]
    inputs: list[RunFolder]
    training: list[RunFolder]
    agreements: list[Agreement] = field(default_factory=list)
    """A verifier that was measured, on each policy's completions."""
    benchmarks: dict[str, Any] = field(default_factory=dict)
    """Of benchmarks that were asked for, what `summary.json` says of them."""
    paired: list[dict[str, Any]] = field(default_factory=list)
    """Of families that were to be compared with their parents, what `summary.json` says of them."""
    interventions: list[Part] = field(default_factory=list)
    """What was guided or edited; none where nobody intervened."""


def render(found: Findings) -> str:
    """The page as one string."""
    import jinja2
    from markupsafe import Markup

    script = (_PAGE / "report.js").read_text(encoding="utf-8")
    # `autoescape=True` for every template: jinja's own default escapes nothing, and words come from models.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    # The policy of the page names the one script by its digest, so an injected one would not run.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.jinja").render(
        title=found.config.title,
        style=Markup((_PAGE / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=f"sha256-{digest}",
        **_context(found),
    )


def _context(found: Findings) -> dict[str, Any]:
    measured = found.measured
    headline = [name for name, metric in measured.metrics.items() if metric.headline]
    shown = [name for name in headline if any(_overall_rows(found, name))]
    policies = [
        {
            "name": p.name,
            "id": p.id,
            "colour": figures.policy_colour(i),
            "prompts": len(measured.seen[p.name]),
            "completions": p.completions,
        }
        for i, p in enumerate(measured.policies.values())
    ]
    return {
        "policies": policies,
        "headlines": _headlines(found, shown),
        "metric_rows": [_metric_row(found, name) for name in measured.metrics if name in shown],
        "failures": _failures(found),
        "benchmarks": _benchmarks(found),
        "missing": [one["title"] for one in found.benchmarks.get("missing", {}).values()],
        "judges": judge_lines(found.rows, found.inputs, found.benchmarks),
        "tradeoffs": figures.tradeoffs(measured, found.rows),
        "slices": figures.slice_panels(measured, found.rows),
        "training": figures.training(found.charts),
        "interventions": figures.interventions(found.interventions),
        "paired": paired_table(found.paired) if found.paired else [],
        "verifier": section(found.agreements, found.rows, found.config.verifier),
        "cards": found.cards,
        "filters": _filters(found.cards),
        "rewarded": any(card.rewards for card in found.cards),
        "prompt_count": len(measured.prompts),
        "methods": [_method(measured, name) for name in measured.metrics],
        "comparisons": len(shown) * (len(policies) - 1),
        "heldout": found.config.heldout_families,
        "runs": [run_line(run) for run in ancestors([*found.inputs, *found.training])],
        "formulas": sorted(found.measured.formulas),
    }


def _overall_rows(found: Findings, metric: str) -> list[EvalRow]:
    """Each policy's row of the `all` slice that measured something."""
    # What is undecided throughout rests on no prompt, and is shown as just that.
    return [r for r in found.rows if r.metric == metric and r.slice == ALL and (r.n or r.undecided)]


def _metric_row(found: Findings, name: str) -> dict[str, Any]:
    metric = found.measured.metrics[name]
    rows = {r.policy: r for r in _overall_rows(found, name)}
    cells = [
        {
            "name": policy,
            "value": _cell_value(rows[policy], metric.rate) if policy in rows else "–",
            "interval": _cell_interval(rows[policy], metric.rate) if policy in rows else "",
        }
        for policy in found.measured.policies
    ]
    # Changes are shown with the decimals of the values that changed.
    like = max((r.value for r in rows.values() if r.value is not None), default=None)
    refused = {policy for policy, row in rows.items() if row.method == NOT_JUDGED}
    own = [c for c in found.changes if c.metric == name and c.slice == ALL]
    changes = [_change(c, metric.rate, like, bool(refused & {c.policy, c.against})) for c in own]
    # The summary line without the title it begins with.
    hint = metric.about or summary("metric", name).partition(": ")[2] or summary("metric", name)
    return {
        "title": metric.full_title,
        "hint": hint[:1].upper() + hint[1:],
        "plot": figures.metric_strip(found.measured, found.rows, name),
        "cells": cells,
        "changes": changes,
    }


def _benchmarks(found: Findings) -> list[dict[str, Any]]:
    """Each benchmark with rows here: how much of it was asked, and its figures beside published ones."""
    parts = []
    for one in found.benchmarks.get("present", {}).values():
        figures_of = {m: published for m, published in one["figures"].items() if m in found.measured.metrics}
        parts.append(
            {
                "title": one["title"],
                "about": one["about"],
                "paper": one["paper"],
                "rows": asked_rows(one),
                "lines": [_beside_published(found, m, published) for m, published in figures_of.items()],
            }
        )
    return parts


def _beside_published(found: Findings, metric: str, published: list[dict[str, Any]]) -> dict[str, Any]:
    """One figure: its value for each policy, then what others published of it, each with its source."""
    kind = found.measured.metrics[metric]
    rows = {r.policy: r for r in _overall_rows(found, metric)}
    return {
        "title": kind.title,
        "cells": [_cell_value(rows[p], kind.rate) if p in rows else "–" for p in found.measured.policies],
        "published": [
            {"system": p["system"], "value": wording.value(p["value"], kind.rate), "source": p["source"]}
            for p in published
        ],
    }


def _cell_value(row: EvalRow, rate: bool) -> str:
    return "not judged" if row.method == NOT_JUDGED else wording.value(row.value, rate)


def _cell_interval(row: EvalRow, rate: bool) -> str:
    """The interval, and how much of what was sampled it leaves out for want of a verdict."""
    undecided = f"{undecided_share(row)} undecided" if row.undecided else ""
    return ", ".join(part for part in (wording.interval(row.low, row.high, rate), undecided) if part)


def _change(change: Difference, rate: bool, like: float | None, refused: bool) -> dict[str, str]:
    moved = change.interval
    tone = _TONES[change.verdict]
    if moved.value is None:
        return {
            "name": "change",
            "tone": "unclear",
            "arrow": "",
            "value": "–",
            "interval": "",
            "text": "not judged" if refused else "no common prompts",
        }
    arrow = "" if change.verdict == UNCLEAR else ("▲" if moved.value > 0 else "▼")
    return {
        "name": "change",
        "tone": tone,
        "arrow": arrow,
        "value": wording.change(moved.value, rate, like),
        "interval": wording.change_interval(moved.low, moved.high, rate, like),
        "text": {UNCLEAR: "no clear change", DIFFERENT: "changed"}.get(change.verdict, change.verdict),
    }


def _headlines(found: Findings, shown: list[str]) -> list[dict[str, Any]]:
    """One sentence a comparison: what got better, what got worse, what can't be told."""
    names = list(found.measured.policies)
    lines = []
    for other in names[1:]:
        own = [c for c in found.changes if c.policy == other and c.slice == ALL and c.metric in shown]
        parts = []
        for kind, words in ((BETTER, "better on"), (WORSE, "worse on"), (UNCLEAR, "no clear change in")):
            changes = [_change_in_words(found, c) for c in own if c.verdict == kind]
            if changes:
                parts.append({"tone": _TONES[kind], "text": f"{words} {wording.listed(changes)}"})
        for i, part in enumerate(parts):
            part["text"] += "." if i == len(parts) - 1 else ";"
        if parts:
            lines.append({"lead": f"{other} against {names[0]}:", "parts": parts})
    return lines


def _change_in_words(found: Findings, change: Difference) -> str:
    metric = found.measured.metrics[change.metric]
    # `XSTest` and `F1` begin with a capital wherever they stand.
    name = (
        metric.full_title if metric.full_title[1:2].isupper() else metric.full_title[:1].lower() + metric.full_title[1:]
    )
    if change.verdict == UNCLEAR or change.interval.value is None:
        return name
    return f"{name} ({wording.change(change.interval.value, metric.rate)})"


def _failures(found: Findings) -> str:
    """How many completions each metric left out, by policy."""
    parts = []
    for name, metric in found.measured.metrics.items():
        own = [r for r in found.rows if r.metric == name and r.slice == ALL and r.failed]
        if own:
            counts = ", ".join(f"{r.policy} {r.failed:,} of {r.failed + r.completions:,}" for r in own)
            parts.append(f"{metric.full_title} ({counts})")
    return wording.listed(parts)


def _filters(cards: list[Card]) -> list[dict[str, Any]]:
    options = {
        "Label": sorted({c.label for c in cards}),
        "Family": sorted({c.family or "none" for c in cards}),
        "Kind": sorted({c.kind or "other" for c in cards}),
        "Verdict": sorted({v for c in cards for v in c.verdicts}),
    }
    return [{"title": t, "name": t.lower(), "options": o} for t, o in options.items() if len(o) > 1]


def _method(measured: Measured, name: str) -> dict[str, Any]:
    """The plugin's own docstring; every second piece stood between backticks."""
    metric = measured.metrics[name]
    # By the rule's module: a metric's docstring is its definition, and there is no second text to keep in step.
    text = metric.about or (inspect.getdoc(sys.modules[metric.observe.__module__]) or "").replace("\n\n", " ")
    return {"name": name, "title": metric.full_title, "version": metric.version, "pieces": text.split("`")}
