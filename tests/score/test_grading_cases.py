"""Small inputs with the right value, by kind of fault: `../shared/cases/grading.jsonl` where it is, and our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stages.score.answers.match import match
from tests.score.made import group
from tests.support.cli import SHARED

FILE = SHARED.parent / "cases" / "grading.jsonl"
absent = pytest.mark.skipif(not FILE.exists(), reason="the grading cases are not beside the repository")


def cases(call: str) -> list[dict[str, Any]]:
    if not FILE.exists():
        return []
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["call"] == call]


def kinds() -> list[str]:
    return sorted({case["kind"] for case in cases("match")}) or ["absent"]


@absent
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


OWN = [json.loads(line) for line in (Path(__file__).parent / "answer_instances.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("kind", sorted({case["kind"] for case in OWN}))
def test_our_own_instances(kind: str) -> None:
    """Further instances of the same kinds, written before they were tried."""
    wrong = []
    for case in (case for case in OWN if case["kind"] == kind):
        more = {name: case[name] for name in ("question", "choices") if name in case}
        found = match(group(answer=case["gold"], answer_kind=case["answer_kind"], **more), case["reply"])
        if found.right is not case["right"]:
            wrong.append((case["gold"], case["reply"], found))
    assert not wrong
