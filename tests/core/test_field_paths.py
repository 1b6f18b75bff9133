"""Paths into rows: what each spelling finds, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from stages.core.errors import UsageError
from stages.core.field_paths import MISSING, parse_map, parse_path, parse_template

ROW: dict[str, Any] = {
    "answer": 3,
    "reward_model": {"ground_truth": "B", "none": None},
    "resps": [["first", "second"], ["third"]],
    "a.b": "dotted",
    "extra_info": '{"split": "test", "list": [1, 2]}',
    "odd": {"x.y": {"z": 1}},
    "text": "{not json",
}


@pytest.mark.parametrize(
    "text, value",
    [
        ("answer", 3),
        ("reward_model.ground_truth", "B"),
        ("reward_model.none", None),
        ("resps[0][1]", "second"),
        ("resps[-1][0]", "third"),
        ("a.b", "dotted"),
        ("extra_info.split", "test"),
        ("extra_info.list[1]", 2),
        ('odd."x.y".z', 1),
        ("'safety'", "safety"),
        ('"safety"', "safety"),
        ("''", ""),
        ("reward_model.absent", MISSING),
        ("resps[2]", MISSING),
        ("resps.first", MISSING),
        ("answer[0]", MISSING),
        ("text.a", MISSING),
        ("absent.a", MISSING),
    ],
)
def test_a_path_finds(text: str, value: Any) -> None:
    found = parse_path(text).find(ROW)
    assert found is value or found == value


@pytest.mark.parametrize("text", ["", "[0]", "a[x]", "a[", "a]", "a..b", '"a', "'a"])
def test_what_is_no_path_is_refused(text: str) -> None:
    if text == "'a":
        # One quote is part of a name: columns are called anything.
        assert parse_path(text).steps == ("'a",)
        return
    with pytest.raises(UsageError, match="is no path"):
        parse_path(text)


def test_a_map_names_each_field_once() -> None:
    assert {k: p.text for k, p in parse_map(["answer=a.b", "label='x=y'"]).items()} == {
        "answer": "a.b",
        "label": "'x=y'",
    }
    assert parse_map(["label='x=y'"])["label"].find({}) == "x=y"
    for wrong, words in ((["answer"], "no field"), (["=a"], "no field"), (["a=b", "a=c"], "twice")):
        with pytest.raises(UsageError, match=words):
            parse_map(wrong)


def test_a_template_has_braces_of_its_own_where_they_are_doubled() -> None:
    found = parse_template("Goto {{Recep}} of {id}, {inner.name}{{}}")
    assert found.find({"id": 3, "inner": {"name": "x"}}) == "Goto {Recep} of 3, x{}"
    assert found.find({"id": None, "inner": {"name": "x"}}) is MISSING
