"""Rows whose instructions can't be checked are rejected; IFEval's and IFBench's files are read as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stages.core.errors import BadSample
from stages.core.stage import Plan
from stages.judging.instructions.checkable import checks_key, families_asked
from stages.prepare.datasets.base import Record
from stages.prepare.instruction_checks import checked, still_checked
from stages.reading.layouts.look import columns_of
from stages.reading.layouts.samples import plain_sample
from stages.reading.plain_samples import Defaults, draft_of

NULLS = {"N": None, "keyword": None, "relation": None}
IFBENCH = {
    "key": "7",
    "prompt": "Name three birds.",
    "instruction_id_list": ["count:numbers", "format:no_whitespace"],
    "kwargs": [{**NULLS, "N": 3.0}, NULLS],
}


def record(*instructions: dict[str, Any]) -> Record:
    texts = tuple(json.dumps(i) for i in instructions)
    return Record("made line 1", "k", "instruction", "t", "train", "words", instructions=texts)


def test_a_row_that_cant_be_checked_is_rejected_with_its_reason_and_the_others_stay() -> None:
    good, unknown, wrong = (
        record({"kind": "one_word"}, {"kind": "count:numbers", "N": 2}),
        record({"kind": "one_word"}, {"kind": "count:number", "N": 2}),
        record({"kind": "count:numbers", "N": "two"}),
    )
    found, families = checked([good, record(), unknown, wrong], [])
    assert [r.rejected and r.rejected[0] for r in found] == [None, None, "unknown_instruction", "wrong_instruction"]
    assert "'count:number'" in (found[2].rejected or ("", ""))[1]
    assert found[0] is good
    assert families == {"builtin", "ifbench_count"}
    assert [name for name, _ in checks_key(families)] == ["builtin", "ifbench_count"]


def test_a_remembered_plan_is_made_anew_where_checks_changed() -> None:
    key = {"checks": checks_key({"ifeval"})}
    assert still_checked(Plan([], {}), [])
    assert still_checked(Plan([], key), [])
    assert not still_checked(Plan([], {"checks": [["ifeval", "sha256:0"]]}), [])
    assert not still_checked(Plan([], {"checks": [["of_a_package_that_went", 1]]}), [])


def read(item: dict[str, Any]) -> list[str]:
    sample = plain_sample(item, columns_of([item], {}, "made"))
    row = draft_of(sample, Defaults("made"), lambda value, name: value).row
    assert row.label == "instruction"
    return row.instructions


def test_kinds_and_arguments_in_two_lists_are_joined() -> None:
    found = read(IFBENCH)
    assert [json.loads(i) for i in found] == [{"kind": "count:numbers", "N": 3.0}, {"kind": "format:no_whitespace"}]
    assert families_asked(found, []) == ["ifbench_count", "ifbench_format"]


@pytest.mark.parametrize(
    "item",
    [
        {
            **IFBENCH,
            "instruction_id_list": json.dumps(IFBENCH["instruction_id_list"]),
            "kwargs": json.dumps(IFBENCH["kwargs"]),
        },
        {**IFBENCH, "kwargs": [json.dumps(given) for given in [{"N": 3.0}, {}]]},
    ],
)
def test_tables_hold_them_as_json_text(item: dict[str, Any]) -> None:
    assert read(item) == read(IFBENCH)


def test_as_many_arguments_as_kinds() -> None:
    with pytest.raises(BadSample, match="instruction_arguments"):
        read({**IFBENCH, "kwargs": [NULLS]})
