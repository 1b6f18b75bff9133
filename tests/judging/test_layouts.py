"""Completions in VTPerception-R1's layout: which part is which, and that nothing a reader sees escapes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.judging.parsed import DESCRIBE, parse_completion

D, T, A = "<description>a red star</description>", "<think>it is red</think>", "<answer>red</answer>"
WHOLE = f"{D}{T}{A}"
# text, description, think, answer, shown, flaw
CASES = [
    (WHOLE, "a red star", "it is red", "red", "a red star\nred", None),
    (f" {D}\n\n{T}\n{A}\n", "a red star", "it is red", "red", "a red star\nred", None),
    (f"<description>\n a \n b \n</description>{T}{A}", "a \n b", "it is red", "red", "a \n b\nred", None),
    (f"<description> </description>{T}{A}", "", "it is red", "red", "red", "the description is empty"),
    (f"{D}<think></think>{A}", "a red star", "", "red", "a red star\nred", "the think is empty"),
    (f"{D}{T}<answer>\n</answer>", "a red star", "it is red", "", "a red star", "the answer is empty"),
    ("", None, None, "", "", "the completion is empty"),
    ("red", None, None, "red", "red", "no description"),
    (f"{T}{A}", None, "it is red", "red", "red", "no description"),
    (f"{D}{A}", "a red star", None, "red", "a red star\nred", "no think"),
    (f"{D}{T}", "a red star", "it is red", "", "a red star", "no answer"),
    (f"{D}{T}red", "a red star", "it is red", "red", "a red star\nred", "no answer"),
    (f"{D}{T}{A} so", "a red star", "it is red", "red", "a red star\nred\nso", "text between"),
    (f"so {D}{T}{A}", "a red star", "it is red", "red", "so\na red star\nred", "text between"),
    (f"{D} so {T}{A}", "a red star", "it is red", "red", "a red star\nso\nred", "text between"),
    (f"{T}{D}{A}", "a red star", "it is red", "red", "a red star\nred", "another order"),
    (f"{A}{D}{T}", "a red star", "it is red", "red", "red\na red star", "another order"),
    (f"{D}{D}{T}{A}", "a red star", "it is red", "red", "a red star\na red star\nred", "2 opening and 2 closing desc"),
    (f"{WHOLE}<answer>blue</answer>", "a red star", "it is red", "blue", "a red star\nred\nblue", "2 opening and 2"),
    (f"{D}{T}<answer>red", "a red star", "it is red", "red", "a red star\nred", "1 opening and 0 closing answer"),
    (f"<description>a star{T}{A}", "a star", "it is red", "red", "a star\nred", "1 opening and 0 closing desc"),
    (f"{D}<think>it is red", "a red star", "it is red", "", "a red star", "1 opening and 0 closing think"),
    (f"{D}{T}red</answer>", "a red star", "it is red", "red", "a red star\nred", "0 opening and 1 closing answer"),
]


@pytest.mark.parametrize("case", CASES, ids=[c[0][:60] for c in CASES])
def test_parts_of_a_described_completion(case: tuple[str, str | None, str | None, str, str, str | None]) -> None:
    text, description, think, answer, shown, flaw = case
    parsed = parse_completion(text, DESCRIBE)
    assert (parsed.description, parsed.think, parsed.answer, parsed.shown) == (description, think, answer, shown)
    assert parsed.well_formed == (flaw is None)
    assert (parsed.flaw is None) if flaw is None else flaw in (parsed.flaw or "")


@given(st.lists(st.sampled_from([D, T, A, "<answer>", "</answer>", "<description>", "</description>", " help ", "x"])))
def test_nothing_outside_think_blocks_escapes_whatever_the_form(pieces: list[str]) -> None:
    text = "".join(pieces)
    parsed = parse_completion(text, DESCRIBE)
    # Without think tags of their own in it, all words but those of the think blocks are shown.
    assert parsed.shown.split().count("help") == pieces.count(" help ")
    assert parsed.well_formed == (text.strip() == WHOLE)


@given(st.text())
def test_a_plain_completion_shows_its_answer(text: str) -> None:
    parsed = parse_completion(text)
    assert parsed.shown == parsed.answer
    assert parsed.description is None
