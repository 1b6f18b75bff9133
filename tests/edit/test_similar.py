"""The same edit for other completions: which are alike, in which order, and lines that --from reads."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from cosmo_cli.app import main
from schemas.identity import prompt_id
from schemas.rollouts import Completion, RolloutGroup, Sampling
from schemas.tables import ROLLOUTS
from schemas.values import text_message
from stages.core.runs.folder import RunFolder
from stages.edit.changes import cut
from stages.edit.config import Change
from stages.edit.similar import changed_steps, proposals
from tests.edit.made import write

FALSE = "<think> 3 plus 5 is 9 . so it is 9 . </think> 9"
LATER = "<think> i count . 3 plus 5 is 9 . </think> 9"
RIGHT = "<think> 3 plus 5 is 8 . </think> 8"


def group(question: str, texts: list[str], split: str = "train") -> RolloutGroup:
    messages = [text_message("user", question)]
    ident = prompt_id(label="general", messages=messages, images=[], answer=None)
    sampling = Sampling(1.0, 1.0, 0, 64, 0)
    told = {"finish_reason": "stop", "sampling": sampling, "policy_id": "p", "engine": "made"}
    completions = [
        Completion(index=n, text=text, token_ids=[5, 2], logprobs=[-0.5, -0.5], **told) for n, text in enumerate(texts)
    ]
    return RolloutGroup(
        id=ident, label="general", source="made", task="made", messages=messages, split=split, completions=completions
    )


ROWS = [
    group("noa has 3 nuts and finds 5 . how many nuts ?", [FALSE, RIGHT, FALSE]),
    group("a card shows stars .", [LATER, f"{LATER} 3 plus 5 is 9 ."]),
    group("ann has 3 shells and finds 5 . how many shells ?", [RIGHT, LATER]),
    group("noa has 3 nuts and finds 5 . how many nuts now ?", [FALSE], split="test"),
    group("how many nuts has noa ?", [FALSE]),
]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.open(write(tmp_path / "in" / "00000.parquet", ROLLOUTS, ROWS))


def edit(**more: object) -> Change:
    return dataclasses.replace(Change(ROWS[0].id, 0, step=1, after="<think> 3 plus 5 is 8 ."), **more)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (edit(), ("3 plus 5 is 9 .", "3 plus 5 is 8 .")),
        (edit(step=0, after=RIGHT), ("3 plus 5 is 9 . so it is 9 . </think> 9", "3 plus 5 is 8 . </think> 8")),
        (edit(step=0, before="is 9 . so", after="is 8 . so"), ("3 plus 5 is 9 . so", "3 plus 5 is 8 . so")),
        (edit(step=2, after="so it is 8 ."), ("so it is 9 .", "so it is 8 .")),
        (edit(step=1, after="3 plus 5 is 8 ."), ("<think> 3 plus 5 is 9 .", "3 plus 5 is 8 .")),
        (edit(step=0, after=FALSE), ("", "")),
    ],
)
def test_what_an_edit_changed_is_whole_steps(change: Change, expected: tuple[str, str]) -> None:
    assert changed_steps(FALSE, cut(change, FALSE)) == expected


def test_completions_with_the_same_step_come_by_their_questions(folder: RunFolder) -> None:
    found = proposals([folder], [(edit(by="ann", why="no"), ROWS[0])], 10)
    # Its own group first, then the question that shares most; none with the step twice or without it, of the test
    # split, or whose question shares no word.
    places = [(change.id, change.index) for change in found]
    assert places[0] == (ROWS[0].id, 2)
    assert set(places[1:]) == {(ROWS[2].id, 1), (ROWS[4].id, 0)}
    assert {(c.before, c.after, c.by, c.why) for c in found} == {
        ("3 plus 5 is 9 .", "3 plus 5 is 8 .", "ann", f"as {ROWS[0].id}#0: no")
    }
    assert [(c.id, c.index) for c in proposals([folder], [(edit(), ROWS[0])], 1)] == places[:1]
    # Two edits of one kind share what there is, and neither proposes the other.
    both = [(edit(), ROWS[0]), (edit(index=2), ROWS[0])]
    assert [(c.id, c.index) for c in proposals([folder], both, 10)] == places[1:]
    assert proposals([folder], [(edit(step=0, after=FALSE), ROWS[0])], 10) == []


def test_the_command_prints_lines_that_it_reads(
    folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "edits.jsonl"
    lines.write_text(json.dumps({"id": ROWS[0].id[:6], "step": 1, "after": "<think> 3 plus 5 is 8 .", "by": "ann"}))
    command = ["edit", str(folder.path), "--from", str(lines), "--similar", "2"]
    assert main([*command, "--runs", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr()
    found = [json.loads(line) for line in printed.out.splitlines()]
    assert [(one["id"], one.get("index", 0)) for one in found][:2] == [(ROWS[0].id, 0), (ROWS[0].id, 2)]
    assert len(found) == 3
    assert "edits: 1, proposed beside them: 2" in printed.err
    assert not (tmp_path / "runs").exists()
    lines.write_text(printed.out)
    assert main([*command[:-1], "1", "--runs", str(tmp_path / "runs")]) == 0
    # The third one that is alike, and no completion twice.
    assert len(capsys.readouterr().out.splitlines()) == 4
    lines.write_text(json.dumps({"id": ROWS[3].id, "step": 1, "after": "x"}))
    assert main([*command, "--runs", str(tmp_path / "runs")]) == 3
    assert "test split" in capsys.readouterr().err
