"""Small inputs with the right value, by kind of fault: `../shared/cases/grading.jsonl`, where that folder is there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stages.score.answers.match import match
from tests.score.made import group
from tests.support.cli import SHARED

FILE = SHARED.parent / "cases" / "grading.jsonl"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="the grading cases are not beside the repository")


def cases(call: str) -> list[dict[str, Any]]:
    if not FILE.exists():
        return []
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["call"] == call]


def kinds() -> list[str]:
    return sorted({case["kind"] for case in cases("match")}) or ["absent"]


@pytest.mark.parametrize("kind", kinds())
def test_answers_of_a_kind(kind: str) -> None:
    wrong = []
    for case in cases("match"):
        given = case["input"]
        if case["kind"] == kind:
            row = group(
                question=given["question"],
                answer=given["gold"],
                answer_kind=given["answer_kind"],
                choices=given["choices"],
            )
            found = match(row, given["reply"])
            if found.right is not case["expected"]:
                wrong.append((case["id"], given["gold"], given["reply"], found))
    assert not wrong
