"""Where an edit lies in a completion, steps that join to the text, and the file that an editor is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import InputError, UsageError
from stages.edit.changes import Cut, changes_of, cut
from stages.edit.config import Change, EditConfig
from stages.edit.document import document, text_of
from stages.judging.steps import split_steps

TEXT = "<think> there are 3 stars . there are 2 hearts . </think> stars"
STEPS = ["<think> there are 3 stars .", " there are 2 hearts .", " </think> stars"]
LINES = "<think>\nIt costs 3.50 euros.\nSo two cost 7!\n</think>\n\nThe answer is 7."


def test_steps_are_sentences_and_lines() -> None:
    assert split_steps(TEXT) == STEPS
    assert split_steps(LINES) == [
        "<think>\nIt costs 3.50 euros.",
        "\nSo two cost 7!",
        "\n</think>\n\nThe answer is 7.",
    ]
    assert split_steps("一张图。两颗星！") == ["一张图。", "两颗星！"]
    assert split_steps("") == []
    assert split_steps(" . ") == [" . "]


@given(st.text(alphabet="ab .!?\n<>/think。", max_size=40))
def test_steps_join_to_the_text_and_saved_as_it_is_a_file_is_no_edit(text: str) -> None:
    steps = split_steps(text)
    assert "".join(steps) == text
    assert all(steps)
    assert text_of(document(text, "id", 0, "policy"), text) == text
    for step in range(1, len(steps) + 1):
        assert text_of(document(text, "id", 0, "policy", step), text, step) == "".join(steps[:step])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"step": 1, "after": "<think> there are 5 stars ."}, Cut(27, "<think> there are 5 stars .")),
        ({"step": 2, "after": "there are 4 hearts ."}, Cut(48, STEPS[0] + " there are 4 hearts .")),
        ({"step": 2, "after": " there are 2 hearts . "}, Cut(48, STEPS[0] + STEPS[1])),
        ({"before": "3 stars", "after": "4 stars"}, Cut(25, "<think> there are 4 stars")),
        # The last change decides where the policy goes on; what follows it is dropped.
        ({"after": TEXT.replace("3", "4")}, Cut(27, STEPS[0].replace("3", "4"))),
        (
            {"after": TEXT.replace("3", "4").replace("2", "1")},
            Cut(48, (STEPS[0] + STEPS[1]).replace("3", "4").replace("2", "1")),
        ),
        # A step that is taken out takes the one after it along, or it would be sampled again.
        ({"after": STEPS[0] + STEPS[2]}, Cut(len(TEXT), STEPS[0] + STEPS[2])),
        ({"after": STEPS[0]}, Cut(len(TEXT), STEPS[0])),
        ({"after": TEXT}, Cut(len(TEXT), TEXT)),
        ({"after": TEXT + " ."}, Cut(len(TEXT), TEXT + " .")),
    ],
)
def test_where_a_change_ends(change: dict[str, Any], expected: Cut) -> None:
    assert cut(Change(id="a", **change), TEXT) == expected


@pytest.mark.parametrize("change", [{"step": 4}, {"step": 2, "before": "x"}, {"before": "there are"}, {"before": ""}])
def test_what_is_not_there_is_stale(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="stale"):
        cut(Change(id="a", after="x", **change), TEXT)


def test_an_edited_file_gives_the_text_and_a_lost_line_is_said() -> None:
    shown = document(TEXT, "id", 0, "policy")
    assert text_of(shown.replace("2 hearts .", "4 hearts .   "), TEXT) == TEXT.replace("2 hearts", "4 hearts")
    assert text_of(shown.replace("there are 2 hearts .\n", "\n"), TEXT) == STEPS[0] + STEPS[2]
    lines = shown.splitlines()
    for at, line in enumerate(lines):
        if line.startswith("--- step"):
            with pytest.raises(InputError, match="numbered lines"):
                text_of("\n".join(lines[:at] + lines[at + 1 :]), TEXT)


def test_lines_of_a_file_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    path = tmp_path / "edits.jsonl"
    path.write_text('{"id": "a", "step": 1, "after": "x"}\n\n{"id": "b", "after": "y", "by": "ben"}\n')
    found = changes_of(EditConfig(file=str(path), by="ann"))
    assert [(c.id, c.by, c.step) for c in found] == [("a", "ann", 1), ("b", "ben", 0)]
    for text, said in (
        ("{", "line 1 is no JSON"),
        ('{"after": "x"}', "no id"),
        ('{"id": "a", "after": "x", "stpe": 1}', "unknown key 'stpe'"),
        ('{"id": "a", "after": 1}', "is a int"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            changes_of(EditConfig(file=str(path)))
    with pytest.raises(InputError, match="can't be read"):
        changes_of(EditConfig(file=str(tmp_path / "none")))
    with pytest.raises(UsageError, match="no edit"):
        changes_of(EditConfig())
