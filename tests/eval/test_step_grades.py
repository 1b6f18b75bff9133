"""Grades of steps where people and metrics see them: eval's share, the report, `cosmo show` and `--explain`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cosmo_cli.inspection.show import spell, with_step_words
from schemas.arrow import to_record
from schemas.rollouts import Span
from schemas.scored import Grade, GradeStatus, ScoredCompletion, StepGrade
from stages.core.registry import load
from stages.eval.metrics.base import Observed, Settings
from stages.eval.report.sample import _completion_card
from stages.eval.views import read_views
from stages.score.explain import explain_lines
from tests.eval.made import completion, group, scored_run
from tests.eval.test_report import report

SAID = "<r>a<b></r>"
TEXT = f"<think> a is b . {SAID} c <i>is</i> d . so . </think> e"


def graded(*values: float | None, index: int = 0, status: str = "ok") -> ScoredCompletion:
    """A completion whose steps have these grades; the second stands behind what an environment wrote."""
    places = [TEXT.index(piece) for piece in ("<think>", "c <i>", "so .")]
    steps = [
        StepGrade(
            start=at, stop=TEXT.index(".", at) + 1, value=v, verdict=None if v is None else f"v{v:g}", reason="why"
        )
        for at, v in zip(places, values, strict=True)
    ]
    known = [v for v in values if v is not None]
    value = sum(known) / len(known) if known and status == "ok" else None
    grade = Grade(name="step_support", version=1, value=value, status=GradeStatus(status), steps=steps)
    observed = [Span(TEXT.index(SAID), TEXT.index(SAID) + len(SAID))]
    return replace(completion(grade, text=TEXT, index=index), observed=observed)


ROW = group("what is a ?", [
    graded(1.0, 0.0, None), graded(1.0, 1.0, 0.5, index=1),
    graded(None, None, None, index=2, status="not_applicable"), graded(1.0, 1.0, 1.0, index=3, status="error"),
])  # fmt: skip


def test_the_share_counts_steps_and_not_completions(tmp_path: Path) -> None:
    (view,) = read_views(next(iter(scored_run(tmp_path, [ROW]).shard_paths())))
    found = load("metric", "step_support").observe(view, Settings())
    assert found == Observed([1.0, 2.5], failed=1, sizes=[2.0, 3.0])
    assert load("metric", "step_support").observe(replace(view, completions=[]), Settings()) is None


def test_the_report_has_a_chip_a_step_with_the_words_that_were_graded(tmp_path: Path) -> None:
    (view,) = read_views(next(iter(scored_run(tmp_path, [ROW]).shard_paths())))
    ((name, chips),) = _completion_card(view.completions[0], benign=False).steps
    assert name == "step_support"
    assert [(c.text, c.tone, c.detail) for c in chips] == [
        ("<think> a is b .", "good", "v1; why"), ("c <i>is</i> d .", "bad", "v0; why"), ("so .", "plain", "why"),
    ]  # fmt: skip


@pytest.mark.parametrize("words", ["c <i>is</i> d .", "<think> a is b ."])
def test_people_are_shown_the_words(words: str) -> None:
    lines = spell(with_step_words(to_record(ROW)))
    assert sum(line.strip() == f"words: {words}" for line in lines) == 4
    explained = [line.text for line in explain_lines(ROW)]
    assert sum(line.startswith("    step ") and f"  {words}  (why)" in line for line in explained) == 4


def test_the_page_has_them_as_text(tmp_path: Path) -> None:
    page = report(tmp_path, [scored_run(tmp_path, [ROW])])
    assert "<summary>step_support: 3 steps</summary>" in page
    assert '<span class="chip bad" title="v0; why">c &lt;i&gt;is&lt;/i&gt; d .</span>' in page
