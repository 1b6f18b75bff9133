"""Answers compared without algebra: exact, and never at odds with the computer algebra system."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.score.answers.algebra.math_worker import compare
from stages.score.answers.exact_math import Number, read, same
from tests.support.cli import SHARED

MATH500 = SHARED / "math500" / "prm800k" / "math_splits" / "test.jsonl"


@pytest.mark.parametrize(
    ("gold", "candidate", "expected"),
    [
        (r"\frac{6}{4}", r"\dfrac32", True),
        (r"\frac12", "0.5", True),
        (r"6\sqrt{2}", r"\sqrt{72}", True),
        (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt2}{2}", True),
        (r"\frac{3\pi}{4}", r"3\pi/4", True),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)", True),
        (r"\{1, 2\}", r"\{2,1\}", True),
        (r"\text{Evelyn}", "evelyn", True),
        ("90^\\circ", "90", True),
        (r"10,\!080", "10080", True),
        (r"6\sqrt{2}", r"6\sqrt{3}", False),
        ("(1, 2)", "(2, 1)", False),
        (r"\text{Evelyn}", "Debra", False),
        (r"\frac13", "0.333", None),
        (r"2\frac12", r"\frac52", True),
        (r"1/2\pi", r"\frac{\pi}{2}", None),
        ("1+2", "3", None),
        ("3^2", "9", True),
        ("50\\%", "0.5", None),
        ("abc", "bca", None),
        ("(1, 2)", "[1, 2]", None),
        (r"\frac10", "1", None),
        (r"\sqrt{-4}", "2", None),
        (r"\sqrt{100000000000000003}", "2", None),
        ("9" * 500, "1", None),
    ],
)
def test_what_it_can_tell_and_what_it_leaves_to_algebra(gold: str, candidate: str, expected: bool | None) -> None:
    assert same(gold, candidate) is expected


@given(st.integers(-60, 60), st.integers(1, 60), st.integers(0, 400), st.integers(0, 2))
def test_a_number_read_is_the_number_written(above: int, below: int, root: int, pi: int) -> None:
    """rational * sqrt(n) * pi^k, squared so as to be exact: the form's square is the written one's."""
    latex = rf"\frac{{{above}}}{{{below}}}\sqrt{{{root}}}" + r"\pi" * pi
    form = read(latex)
    assert form is not None
    number = form.value
    assert isinstance(number, Number)
    assert number.rational**2 * number.root == Fraction(above, below) ** 2 * root
    assert number.rational == 0 or (number.rational > 0) == (above > 0)
    assert number.pi == (pi if number.rational else 0)
    assert all(number.root % (n * n) for n in range(2, 21))


@given(st.text(alphabet=r"\{}()[],.$%^_ abdfginpqrstx0123456789+-*/", max_size=40))
def test_any_text_is_read_or_left_alone(text: str) -> None:
    form = read(text)
    assert form is None or same(text, text) is True


@pytest.mark.skipif(not MATH500.exists(), reason="public benchmark files are not beside the repository")
def test_it_never_contradicts_math_verify() -> None:
    """Every seventh MATH-500 answer with near misses (other digits) and other spellings, by both."""
    golds = [json.loads(line)["answer"] for line in MATH500.read_text(encoding="utf-8").splitlines()]
    told = {True: 0, False: 0}
    for gold in golds[::7]:
        missed = "".join(str((int(c) + 1) % 10) if c.isdigit() else c for c in gold)
        for candidate in {
            gold,
            missed,
            gold.replace("\\frac", "\\dfrac"),
            gold.replace("\\left", "").replace("\\right", ""),
        }:
            expected = same(gold, candidate)
            if expected is not None and not gold.isdigit():
                told[expected] += 1
                assert compare(gold, f"\\boxed{{{candidate}}}").get("correct") is expected, (gold, candidate)
    assert min(told.values()) > 15, told


@pytest.mark.parametrize(
    ("gold", "candidate", "right"),
    [
        ("x^2+2x+1", "(x+1)^2", True),
        ("x^2+2x+1", "(x+2)^2", False),
        ("6 - 5i", "7 - 6i", False),
        ("p - q", "2(p - q)", False),
        ("50\\%", "0.5", True),
        ("\\frac{1}{3}", "0.333333", True),
        ("x = 5", "5", True),
    ],
)
def test_the_childs_short_cut_changes_no_verdict(gold: str, candidate: str, right: bool) -> None:
    from math_verify import parse, verify

    # Without limits of the clock, which a busy machine would reach.
    expected, found = (parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (gold, candidate))
    plain = verify(expected, found, timeout_seconds=None)
    assert compare(gold, f"\\boxed{{{candidate}}}")["correct"] is plain is right
