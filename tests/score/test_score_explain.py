"""What `--explain` says of grades without a value, and which prompts an id means. The command is in tests/cli."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.scored import Grade, ScoredGroup
from stages.core.errors import InputError
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Resources, Silent
from stages.score.config import ScoreConfig
from stages.score.explain import explain_lines, find_groups
from tests.score.made import graded, graded_row, grader, on_disk


def answer(status: Any, **more: Any) -> Grade:
    return graded("answer", None, status, 2, **more)


RIGHT = graded("format", 1.0, verdict="well_formed")


def lines(made: ScoredGroup) -> list[str]:
    return [line.text for line in explain_lines(made)]


@pytest.mark.parametrize(
    ("grades", "why"),
    [
        ([RIGHT, answer("error")], "answer failed"),
        ([RIGHT, answer("timeout")], "answer failed"),
        ([RIGHT, answer("undecided")], "answer is undecided"),
        ([RIGHT, answer("undecided", left_to="judge"), graded("judge", None, "error")], "answer failed"),
        ([RIGHT, answer("not_applicable")], "the task's own term does not apply: answer"),
        ([replace(RIGHT, value=None, status="not_applicable"), answer("not_applicable")], "no term applies"),
    ],
)
def test_why_there_is_no_reward(grades: list[Grade], why: str) -> None:
    made = lines(graded_row(*grades))
    assert "completion 0  reward none  (stop)" in made
    (total,) = [line for line in made if line.startswith("  = ")]
    assert total.endswith(f" + answer none * 1  -> none, because {why}")


def test_a_reward_needs_no_reason_though_a_term_has_no_value() -> None:
    assert "  = format 1 * 1 + answer none * 1" in lines(graded_row(RIGHT, answer("not_applicable"), reward=1.0))


def test_a_grade_is_a_row_of_a_table_with_its_state_and_what_was_seen() -> None:
    made = lines(
        graded_row(
            RIGHT,
            answer("undecided", left_to="judge", reason="two numbers\x1b[2J"),
            graded("judge", 0.25, version=0xABCDEF01, verdict="half", seen="7 or 8", reason="it says so"),
            reward=1.25,
        )
    )
    assert made[-3:] == [
        "  format v1           1  well_formed",
        "  answer v2        none  undecided, left to judge  two numbers\\x1b[2J",
        "  judge #abcdef01  0.25  half                      saw '7 or 8': it says so",
    ]


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, ["  reference: none"]),
        ({"answer": "7"}, ["  reference: '7' (no kind given)"]),
        ({"answer": "7", "answer_kind": "number"}, ["  reference: '7' (number)"]),
        ({"harmful": False}, ["  reference: none", "  request: known to be harmless"]),
        ({"harmful": True}, ["  reference: none", "  request: harmful"]),
    ],
)
def test_what_is_known_of_a_prompt(fields: dict[str, Any], shown: list[str]) -> None:
    made = lines(graded_row(RIGHT, **fields))
    start = made.index("  | how many ?") + 1
    assert made[start : made.index("  reward formula: sum: format*1 + answer*1")] == shown


def found(folders: list[Path], prefix: str, **config: Any) -> list[ScoredGroup]:
    ctx = Context(ScoreConfig(**config), [], Silent(), Resources())
    return find_groups([RunFolder.open(f) for f in folders], prefix, grader(), ctx)


def test_a_whole_id_wins_over_those_that_begin_with_it_in_every_folder_that_holds_it(tmp_path: Path) -> None:
    short, long, other = (replace(graded_row(RIGHT), id=name) for name in ("ab", "abc", "xyz"))
    a = on_disk(tmp_path, [other, long, short], per_shard=1)
    b = on_disk(tmp_path, [replace(short, source="elsewhere"), other], per_shard=2)
    assert [g.source for g in found([a, b], "ab")] == ["made", "elsewhere"]
    assert [g.id for g in found([a, b], "abc")] == ["abc"]
    assert [g.id for g in found([a, b], "x")] == ["xyz", "xyz"]
    with pytest.raises(InputError, match=r"2 prompts in .* begin with 'a'"):
        found([a], "a")
    with pytest.raises(InputError, match="no prompt ''"):
        found([a], "")


def test_shards_that_are_missing_are_passed_over(tmp_path: Path) -> None:
    rows = [replace(graded_row(RIGHT), id=name) for name in ("first", "second", "third")]
    folder = on_disk(tmp_path, rows, per_shard=1)
    (folder / "receipts" / "00000.json").unlink()
    assert [g.id for g in found([folder], "third")] == ["third"]
    with pytest.raises(InputError, match="no prompt 'first'"):
        found([folder], "first")


def test_what_is_scored_is_shown_as_it_was_graded_unless_it_is_to_be_graded_anew(tmp_path: Path) -> None:
    old = graded_row(graded("format", 0.125), reward=0.125)
    folder = on_disk(tmp_path, [old])
    assert found([folder], old.id)[0].completions[0].reward == 0.125
    ctx = Context(ScoreConfig(), [], Silent(), Resources())
    (anew,) = find_groups([RunFolder.open(folder)], old.id, replace(grader(), regrade=True), ctx)
    assert {g.name: g.value for g in anew.completions[0].grades}["format"] == 0.0
