"""Capability and instruction benchmarks: rows of small files in each one's own layout, and its figures by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from schemas.prompts import NO_TRAINING, PromptRow
from schemas.values import plain_text
from stages.benchmarks.catalogue import benchmark
from tests.benchmarks.made import figures, files, rows, verdicts


@dataclass(frozen=True)
class Case:
    """One benchmark: files in its layout, the rows they must give, and figures of given verdicts."""

    name: str
    files: dict[str, Any]
    rows: list[dict[str, Any]]
    """What each row must have; `prompt` is its words, `images` how many."""
    given: list[str | bool | None]
    """A verdict a row."""
    figures: dict[str, float | None]
    options: dict[str, Any] = field(default_factory=dict)
    verifier: str = "answer"

    @property
    def id(self) -> str:
        """What pytest calls it."""
        return f"{self.name}{'-' + next(iter(self.files)) if self.options else ''}"


CASES = [
    Case(
        "gsm8k",
        {
            "grade_school_math/data/test.jsonl": [
                {"question": "Ann has 2 bags of 3 pens. How many pens?", "answer": "2*3=<<2*3=6>>6 pens.\n#### 6"},
                {"question": "A car costs $1,200 and 250 more. How much?", "answer": "1200+250=1450\n#### 1,450"},
                {"question": "How many are left?", "answer": "None.\n#### 0"},
            ],
            "grade_school_math/data/train.jsonl": [{"question": "2 + 2 ?", "answer": "#### 4"}],
        },
        [
            {"prompt": "Ann has 2 bags of 3 pens. How many pens?", "answer": "6", "answer_kind": "number"},
            {"answer": "1450", "label": "math", "split": "test"},
            {"answer": "0"},
        ],
        [True, False, True],
        {"accuracy": 2 / 3},
    ),
]


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
