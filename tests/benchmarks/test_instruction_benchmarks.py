"""IFEval and IFBench: rows of small files in their layout, graded by the verifier, and figures by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.prompts import NO_TRAINING
from stages.core.registry import load
from stages.judging.parsed import parse_completion
from tests.benchmarks.made import figures, files, rows, scored
from tests.score.made import completion

NULLS = {"N": None, "num_words": None, "relation": None, "keywords": None}
RECORDS = [
    {"key": 1, "prompt": "One?", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {
        "key": 2,
        "prompt": "Two?",
        "instruction_id_list": ["count:numbers", "keywords:existence"],
        "kwargs": [{**NULLS, "N": 1.0}, {**NULLS, "keywords": ["owl"]}],
    },
    {"key": 3, "prompt": "Three?", "instruction_id_list": ["format:no_whitespace"], "kwargs": [NULLS]},
]
SAID = ["no comma here", "an owl, or 2 of 3", "Sure, here:\n**owl**"]
"""Followed; one of two broken, in every form; obeyed without its first line alone."""


@pytest.mark.parametrize(("name", "file"), [("ifeval", "input_data.jsonl"), ("ifbench", "data/IFBench_test.jsonl")])
def test_rows_and_figures(name: str, file: str, tmp_path: Path) -> None:
    found = rows(name, files(tmp_path / "files", {file: RECORDS}))
    assert [len(row.instructions) for row in found] == [1, 2, 1]
    assert json.loads(found[1].instructions[0]) == {"kind": "count:numbers", "N": 1.0}
    assert all((row.label, row.split) == ("instruction", "test") and NO_TRAINING in row.flags for row in found)
    judge = load("verifier", "instruction").grade
    groups = [
        scored(row, [judge(row, completion(text), parse_completion(text))])
        for row, text in zip(found, SAID, strict=True)
    ]
    got = figures(tmp_path / "runs", name, groups)
    assert got["prompt_strict"] == pytest.approx(1 / 3)
    assert got["prompt_loose"] == pytest.approx(2 / 3)
    assert got["instruction_loose"] == pytest.approx(3 / 4)
    if name == "ifeval":
        assert got["instruction_strict"] == pytest.approx(2 / 4)
