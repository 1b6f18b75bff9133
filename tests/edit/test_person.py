"""The simulated person: which step is false, and what stands in its place."""

from __future__ import annotations

import pytest

from examples.edit.person import corrected
from schemas.prompts import PromptRow
from schemas.values import text_message

ROW = PromptRow(
    id="a", label="general", source="made", task="made", messages=[text_message("user", "more stars or hearts ?")],
    facts=["a red star"], key_facts=["there are 3 stars", "there are 2 hearts"],
)  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("there are 4 stars . there are 2 hearts .", "<think> there are 3 stars ."),
        ("there are 3 stars . there are 9 hearts .", "<think> there are 3 stars . there are 2 hearts ."),
        ("a red star . it rains .", "<think> a red star . there are 3 stars ."),
        ("there are 3 stars . there are 2 hearts .", None),
        ("there are 3 stars . there are 2 hearts . it rains .", None),
    ],
)
def test_the_first_false_step_gives_way_to_the_fact_that_was_needed_there(steps: str, expected: str | None) -> None:
    assert corrected(ROW, f"<think> {steps} </think> hearts") == expected
