"""Right or wrong, by answer kind."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.score.answers.choices import choice_index
from stages.score.answers.numbers import final_value
from stages.score.answers.numerals import as_number
from stages.score.answers.reading import boxed, read
from tests.score.made import grade


def verdict(answer: str, gold: str, kind: str | None, **fields: Any) -> bool | None:
    """Right, wrong, or None for undecided."""
    found = grade("answer", answer, answer=gold, answer_kind=kind, **fields)
    if found.status == "undecided":
        assert found.value is None
        return None
    assert found.status == "ok", found
    assert found.verdict == ("correct" if found.value == 1.0 else "incorrect")
    return found.value == 1.0


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("18", "16 - 3 - 4 = 9 , and 9 * 2 = 18 .", True),
        ("18", "#### 18.00", True),
        ("18", "A: 18\nThat leaves 3 over.", True),
        ("18", "The answer is 18 , not 20 .", True),  # the first number of what it marks as its answer
        ("20", "The answer is 18 , not 20 .", False),
        ("1,000", "It costs $1,000.", True),
        ("1000", "about 1,001", False),
        ("3", "there are three red circles .", True),
        ("2", "two of them , and that one .", True),
        ("1", "one .", True),
        ("2", "x = 5-3 = 2.", True),
        ("-2", "- 2 .", True),
        ("-2", "so 4-2", False),
        ("0.5", "1/2", True),
        ("2.67", "8/3 is 2.6667", True),
        ("2.67", "2.7", False),
        ("0.5", "0.54", False),  # one decimal is no rounding
        ("4", "\\boxed{3} is wrong , \\boxed{4} is right", True),
        ("3", "\\boxed{3} is wrong , \\boxed{4} is right", False),
        ("50%", "\\boxed{50\\%}", True),
        ("7", "no idea", False),
        ("7", "7" * 5000, False),
        ("5", "1/0", False),
    ],
)
def test_numbers(gold: str, answer: str, right: bool) -> None:
    assert verdict(answer, gold, "number") is right


@given(st.integers(-(10**12), 10**12))
def test_a_number_is_found_however_it_is_written(n: int) -> None:
    for text in (f"{n}", f"{n:,}", f"so it is {n} .", f"\\boxed{{{n:,}}}", f"first 7 , then #### {n}"):
        value = final_value(read(text))
        assert value is not None
        assert value.number == n


@given(st.fractions(max_denominator=10**6))
def test_fractions_are_exact(f: Fraction) -> None:
    assert as_number(f"{f.numerator}/{f.denominator}") == f


@pytest.mark.parametrize(
    ("answer", "index"),
    [
        ("The answer is (B)", 1),
        ("B. because it flies", 1),
        ("b", 1),
        ("( b )", 1),
        ("option b .", 1),
        ("**B**", 1),
        ("it is a blue bird", 1),
        ("A person would say B", 1),
        ("I think (A) or (B), so the answer: B", 1),
        ("(A) or (B)", None),
        ("(A) or (B) , maybe option B", None),  # two in brackets are not decided by a weaker sign
        ("a red fish and a blue bird", None),
        ("neither", None),
        ("Z", None),
        ("the harmony is (B°7)", None),
    ],
)
def test_choices(answer: str, index: int | None) -> None:
    assert choice_index(answer, ["red fish", "blue bird", "green frog"]) == index


def test_an_option_inside_another_is_not_named() -> None:
    assert choice_index("it is dark red", ["red", "dark red"]) == 1


@pytest.mark.parametrize(
    ("gold", "choices", "answer", "right"),
    [
        ("B", ["12", "15"], "15", True),
        ("15", ["12", "15"], "(B)", True),
        ("D", [], "(D) because", True),
        ("D", [], "(C)", False),
        ("C", ["A", "B", "C"], "picture C", True),
        (
            "C",
            ["C", "D", "B"],
            "the note is a B note, so the answer is (C)",
            True,
        ),  # by text of the reference
        ("61", [], "the daisy says 61", True),
    ],
)
def test_choice_rows(gold: str, choices: list[str], answer: str, right: bool) -> None:
    if choices == ["C", "D", "B"]:
        gold = "B"  # the third option
        assert verdict(answer, gold, "choice", choices=choices) is right
    else:
        assert verdict(answer, gold, "choice", choices=choices) is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("honey", True),
        ("HONEY .", True),
        ("they eat honey .", True),
        ("the people in this town eat sweet honey", None),  # sweet honey may be another thing
        ("the answer is : honey", True),
        ("honeycomb", False),
        ("it is not honey", False),
        ("honey , rice", False),
        ("honey rice plums", None),
        ("they eat honey rice plums figs", None),
        ("people eat honey or rice", False),
        ("rice\nhoney\nplums", False),
        ("rice", False),
    ],
)
def test_text(answer: str, right: bool | None) -> None:
    assert verdict(answer, "honey", "text", question="what do people eat here ?") is right


@pytest.mark.parametrize(
    ("question", "gold", "answer", "right"),
    [
        ("what colour ?", "red", "red", True),
        ("what colour ?", "red", "red blue green", False),
        ("what colour ?", "red", "red , not blue", True),
        ("red or blue ?", "red", "red blue", False),
        ("which is larger ?", "red", "the red one is larger than the blue one", True),
        ("what is left of the square ?", "circle", "the circle is left of the square", True),
        ("is it ?", "yes", "yes and no", False),
        ("what ?", "a stop sign", "It is a bright red stop sign.", None),
        ("谁?", "小红", "是小红。", True),
    ],
)
def test_text_in_its_question(question: str, gold: str, answer: str, right: bool | None) -> None:
    assert verdict(answer, gold, "text", question=question) is right


@given(
    st.lists(st.sampled_from(["red", "blue", "green", "pink"]), min_size=2, unique=True),
    st.sampled_from(", |or"),
)
def test_naming_every_colour_is_never_right(named: list[str], separator: str) -> None:
    answer = f" {separator} ".join(named)
    assert not any(verdict(answer, gold, "text") for gold in named)


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("\\frac{1}{2}", "The result is $0.5$", True),
        ("p - q", "so the answer is $-q+p$.", True),
        ("p - q", "\\boxed{q-p}", False),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "\\boxed{(3, \\pi/2)}", True),
        ("x^2 + 2x + 1", "hence \\boxed{(x+1)^2}", True),
        ("90^\\circ", "\\boxed{90}", True),
        ("\\text{Evelyn}", "\\boxed{\\text{Evelyn}}", True),
        ("12", "so $x = 12$", True),
        ("12", "I can't tell", False),
    ],
)
def test_mathematics(gold: str, answer: str, right: bool) -> None:
    assert verdict(answer, gold, "math") is right


def test_a_row_without_a_kind_is_judged_by_its_reference() -> None:
    assert verdict("(B)", "B", None, choices=["x", "y"])
    assert verdict("so 1,234", "1234", None)
    assert verdict("\\boxed{1/3}", "\\frac{1}{3}", None)
    assert verdict("a cat", "cat", None)


def test_no_reference_does_not_apply_and_nothing_said_is_wrong() -> None:
    none = grade("answer", "red")
    assert (none.status, none.value) == ("not_applicable", None)
    empty = grade("answer", "<think> all of it is thinking", raw=True, answer="red", answer_kind="text")
    assert (empty.value, empty.verdict, empty.seen) == (0.0, "incorrect", None)


def test_an_unknown_kind_is_an_error_grade_and_not_a_zero() -> None:
    found = grade("answer", "red", answer="red", answer_kind="riddle")
    assert (found.status, found.value) == ("error", None)
    assert "riddle" in (found.reason or "")


def test_seen_is_what_was_judged() -> None:
    found = grade("answer", "3 plus 4 makes 8", answer="7", answer_kind="number")
    assert (found.seen, found.reason) == ("8", "8 is not 7")


@given(st.text(alphabet="{}ab\\", max_size=20))
def test_boxed_is_balanced(inside: str) -> None:
    found = boxed(f"\\boxed{{{inside}}}")
    assert found is None or found.count("{") == found.count("}")


@given(st.text(max_size=80), st.sampled_from(["number", "choice", "text"]))
def test_no_answer_breaks_a_rule(answer: str, kind: str) -> None:
    for gold in ("7", "red", "B"):
        found = grade("answer", answer, answer=gold, answer_kind=kind, choices=["x", "red"] if kind == "choice" else [])
        assert found.status in ("ok", "undecided"), found
