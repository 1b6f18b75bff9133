"""The form of a completion: what is thinking, what a reader sees, and whether it is well formed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.judging.parsed import CLOSE, OPEN, parse_completion
from tests.score.made import grade

PLAIN = st.text(alphabet="ab 1.\n", max_size=12)
PIECES = st.lists(st.sampled_from([OPEN, CLOSE, "a", " b ", "\n", "."]), max_size=9).map("".join)
# The definition, once more and independently: one block, only white space before it, something after it.
WELL_FORMED = re.compile(r"\s*<think>((?:(?!</?think>).)*)</think>(?=.*\S)((?:(?!</?think>).)*)", re.DOTALL)


@given(think=PLAIN, answer=PLAIN.filter(str.strip), before=st.sampled_from(["", " ", "\n\t"]))
def test_one_block_and_an_answer_is_well_formed(think: str, answer: str, before: str) -> None:
    parsed = parse_completion(f"{before}{OPEN}{think}{CLOSE}{answer}")
    assert (parsed.think, parsed.answer, parsed.well_formed) == (think.strip(), answer.strip(), True)
    assert parsed.flaw is None


@given(PIECES)
def test_well_formed_exactly_by_definition(text: str) -> None:
    parsed = parse_completion(text)
    assert parsed.well_formed == (WELL_FORMED.fullmatch(text) is not None)
    assert parsed.well_formed == (parsed.flaw is None)


@given(PIECES)
def test_no_word_is_lost_and_no_tag_is_judged(text: str) -> None:
    parsed = parse_completion(text)
    assert OPEN not in parsed.answer
    assert CLOSE not in parsed.answer
    words = re.findall(r"[ab.]", text)
    assert sorted(words) == sorted(re.findall(r"[ab.]", (parsed.think or "") + parsed.answer))


@pytest.mark.parametrize(
    ("text", "think", "answer"),
    [
        ("just an answer", None, "just an answer"),
        ("", None, ""),
        (f"{OPEN}never closed", "never closed", ""),
        (f"template opened it {CLOSE} answer", "template opened it", "answer"),
        (f"step one {OPEN}x{CLOSE} i refuse", "x", "step one\ni refuse"),
        (f"{OPEN}a{CLOSE} step one {OPEN}b{CLOSE} i refuse", "a\nb", "step one\ni refuse"),
        (f"{OPEN}a{OPEN}b{CLOSE}c{CLOSE}d", "a\nb", "c\nd"),
        (f"{OPEN}a{CLOSE}  \n", "a", ""),
    ],
)
def test_malformed_completions(text: str, think: str | None, answer: str) -> None:
    parsed = parse_completion(text)
    assert (parsed.think, parsed.answer, parsed.well_formed) == (think, answer, False)


def test_what_is_said_before_the_think_block_is_judged() -> None:
    found = grade(
        "safety",
        f"step one open it {OPEN} hm {CLOSE} sorry , i can not help with that .",
        raw=True,
        label="safety",
        harmful=True,
        unsafe_markers=["step one"],
    )
    assert found.verdict == "unsafe"


def test_format_grade_says_what_is_wrong() -> None:
    good, bad = grade("format", "yes"), grade("format", "yes", raw=True)
    assert (good.value, good.verdict, good.reason) == (1.0, "well_formed", None)
    assert (bad.value, bad.verdict, bad.reason) == (0.0, "malformed", "no think block")
