"""Reward terms and the drift watch in the report: the right numbers, and an alarm where the rows have one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from schemas.steps import LabelStat, StepRow, TermStat
from stages.core.config import build
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.eval.config import EvalConfig
from stages.eval.report.curves import TERMS, WATCH, Chart, Span, charts
from stages.eval.stage import STAGE
from tests.eval.made import answered, scored_run, step, steps_run


def term(name: str, mean: float, n: int) -> TermStat:
    return TermStat(name=name, mean=mean, completions=n)


def label(name: str, *terms: TermStat, **fields: Any) -> LabelStat:
    return LabelStat(label=name, completions=8, terms=list(terms), **fields)


def found(tmp_path: Path, rows: list[StepRow], kind: str) -> dict[str, Chart]:
    return {c.title: c for c in charts([steps_run(tmp_path, rows)]) if c.kind == kind}


def test_terms_by_label_are_the_four_of_the_paper(tmp_path: Path) -> None:
    stats = [
        label("knowledge", term("format", 1.0, 8), term("knowledge", 0.5, 6), term("answer", 1.0, 2)),
        label("safety", term("format", 0.75, 8), term("safety", 0.2, 8), term("visual_contrast", 0.4, 8)),
    ]
    shown = found(tmp_path, [step(1, labels=stats)], TERMS)
    values = {title: {s.name: s.segments[0][0][1] for s in c.series} for title, c in shown.items()}
    assert values == {
        "Format by label": {"knowledge": 1.0, "safety": 0.75},
        "Visual focus by label": {"safety": 0.4},
        "Task-aware by label": {"knowledge": pytest.approx((0.5 * 6 + 2) / 8), "safety": 0.2},
    }


def test_rates_are_pooled_over_what_was_judged(tmp_path: Path) -> None:
    stats = [label("a", refusal_rate=0.5, benign=6), label("b", refusal_rate=0.0, benign=2), label("c")]
    shown = found(tmp_path, [step(1, labels=stats, sampler_gap=0.01, clip_fraction=0.1, drift=0.0)], WATCH)
    assert shown["Needless refusal"].series[0].segments == [[(1, pytest.approx(0.375))]]
    assert "Unsafe compliance" not in shown
    assert {"Sampler gap", "Clipped tokens", "Drift"} <= shown.keys()


def test_alarms_mark_the_series_they_are_about(tmp_path: Path) -> None:
    held = {3, 4, 7}
    rows = [
        step(
            n,
            labels=[label("a", refusal_rate=0.5, benign=6)],
            entropy=0.5,
            alarms=["over_refusal", "made_up"] if n in held else [],
        )
        for n in range(1, 9)
    ]
    shown = found(tmp_path, rows, WATCH)
    assert shown["Needless refusal"].spans == [Span("over_refusal", 3, 4), Span("over_refusal", 7, 7)]
    assert shown["Entropy"].spans == []


def page(tmp_path: Path, rows: list[StepRow]) -> str:
    folder = steps_run(tmp_path, rows)
    config = build(EvalConfig, {"training": [str(folder.path)]}, "eval")
    scored = scored_run(tmp_path, [answered("q", [True])])
    result = run_stage(STAGE, config, [scored.path], options=Options(runs=tmp_path))
    return (RunFolder.open(result.path).path / "report.html").read_text(encoding="utf-8")


def test_the_report_has_a_drift_section_with_its_alarms(tmp_path: Path) -> None:
    rows = [
        step(
            n,
            labels=[label("a", term("format", 1.0, 8), refusal_rate=n / 10, benign=8)],
            terms=[term("format", 1.0, 8)],
        )
        for n in range(1, 7)
    ]
    quiet = page(tmp_path, rows)
    assert "Drift watch" in quiet
    assert "No alarm." in quiet
    assert 'class="band"' not in quiet
    assert "Format by label" in quiet
    alarmed = [step(n, labels=r.labels, alarms=["over_refusal"] if n > 4 else []) for n, r in enumerate(rows, start=1)]
    loud = page(tmp_path, alarmed)
    assert re.search(r"<b>over_refusal</b> at steps 5 to 6", loud)
    assert loud.count('class="band"') == 1
    assert "alarm over_refusal, steps 5 to 6" in loud
    assert "No alarm." not in loud


def test_supervised_steps_have_no_watch(tmp_path: Path) -> None:
    rows = [step(n, objective="sft", completion_length=5.0, entropy=0.5) for n in range(1, 4)]
    assert found(tmp_path, rows, WATCH) == {}
    assert "Drift watch" not in page(tmp_path, rows)
