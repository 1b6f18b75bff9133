"""Capability and instruction benchmarks: rows of small files in each one's own layout, and its figures by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.prompts import NO_TRAINING, PromptRow
from schemas.values import plain_text
from stages.benchmarks.catalogue import benchmark
from stages.score.answers.match import match
from tests.benchmarks import capability_cases, reasoning_cases
from tests.benchmarks.capability_case import Case
from tests.benchmarks.made import figures, files, picture, rows, verdicts

CASES = [*capability_cases.CASES, *reasoning_cases.CASES]


def _shown(row: PromptRow, name: str) -> Any:
    if name == "prompt":
        return plain_text(row.messages)
    if name == "images":
        return len(row.images)
    return getattr(row, name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_rows_and_figures(case: Case, tmp_path: Path) -> None:
    found = rows(case.name, files(tmp_path / "files", case.files), **case.options)
    shown = [{name: _shown(row, name) for name in wanted} for row, wanted in zip(found, case.rows, strict=True)]
    assert shown == case.rows
    assert all(row.split == "test" and row.source.partition(":")[0] == case.name for row in found)
    assert benchmark(case.name).may_train or all(NO_TRAINING in row.flags for row in found)

    got = figures(tmp_path / "runs", case.name, verdicts(found, case.verifier, case.given))
    assert {name: got[name] for name in case.figures} == {name: pytest.approx(v) for name, v in case.figures.items()}


def test_a_single_file_is_read_as_the_arm_whose_it_is(tmp_path: Path) -> None:
    for name, arms in (("mmmu_pro", ["standard", "vision"]), ("pope", ["random", "popular", "adversarial"])):
        case = next(case for case in CASES if case.name == name)
        root = files(tmp_path / name, case.files)
        for arm, file in zip(arms, case.files, strict=False):
            found = rows(name, root / file)
            assert {row.task for row in found} == {f"{name}:{arm}"}, file


def test_a_reply_by_letter_is_right_where_options_are_letters(tmp_path: Path) -> None:
    record = {"question": "Which eats?", "options": ["C", "A", "B"], "answer": "1", "image": picture("blue")}
    (row,) = rows("ai2d", files(tmp_path, {"data/test-0.parquet": [record]}))
    said = {reply: match(row, reply).right for reply in ("B", "(B)", "A", "C")}
    assert said == {"B": True, "(B)": True, "A": False, "C": False}
