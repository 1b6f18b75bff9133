"""Verifiers that are plain functions: what they are called with, and what comes of what they give."""

from __future__ import annotations

import math
from typing import Any

import pytest

from schemas.scored import Grade
from schemas.values import text_message
from stages.judging.parsed import parse_completion
from stages.score.verifiers.base import ModelVerifier, Ungraded, Verifier
from stages.score.verifiers.functions import KNOWN, adapt
from tests.score.made import group, thought

ROW = group(thought("7"), "no think block: 8", question="how many ?", answer="7")


def graded(function: Any, index: int = 0) -> Grade:
    """The grade that a plain function gives a completion of the row."""
    verifier = adapt("mine", function)
    assert isinstance(verifier, Verifier)
    completion = ROW.completions[index]
    return verifier.grade(ROW, completion, parse_completion(completion.text))


def graded_all(function: Any) -> list[Grade]:
    """The grades that a TRL-style function gives the row's completions."""
    verifier = adapt("mine", function)
    assert isinstance(verifier, ModelVerifier)
    (grades,) = verifier.grades(verifier.open(None), [Ungraded(ROW, ROW.completions)])  # type: ignore[arg-type]
    return grades


def test_a_function_is_called_with_what_it_asks_for_by_name() -> None:
    seen: dict[str, Any] = {}

    def everything(prompt: str, completion: str, answer: str, **row: Any) -> bool:
        seen.update(row, prompt=prompt, completion=completion, answer=answer)
        return True

    assert graded(everything).value == 1.0
    assert seen.keys() == set(KNOWN)
    assert (seen["prompt"], seen["completion"], seen["answer"]) == ("how many ?", "7", "7")
    assert seen["text"] == ROW.completions[0].text
    assert (seen["label"], seen["images"], seen["id"]) == (ROW.label, ROW.images, ROW.id)
    assert seen["think"] in seen["text"]
    assert graded(lambda text, completion: text == completion, index=1).value == 1.0
    assert graded(lambda completion, *, colour="red": colour == "red").value == 1.0


def test_the_prompt_is_what_was_asked_last() -> None:
    turns = [text_message("user", "first ?"), text_message("assistant", "so ."), text_message("user", "last ?")]
    row = group(thought("7"), messages=turns)
    seen: list[Any] = []

    def whole(prompts: list[str]) -> list[None]:
        seen.extend(prompts)
        return [None]

    for function in (lambda prompt: seen.append(prompt), whole):
        verifier = adapt("mine", function)
        if isinstance(verifier, Verifier):
            verifier.grade(row, row.completions[0], parse_completion(row.completions[0].text))
        else:
            verifier.grades(verifier.open(None), [Ungraded(row, row.completions)])
    assert seen == ["last ?", "last ?"]


@pytest.mark.parametrize(("given", "value"), [(True, 1.0), (False, 0.0), (3, 3.0), (0.25, 0.25)])
def test_numbers_and_booleans_are_grades(given: Any, value: float) -> None:
    grade = graded(lambda completion: given)
    assert (grade.value, grade.status, grade.name) == (value, "ok", "mine")


def test_none_does_not_apply() -> None:
    grade = graded(lambda completion: None)
    assert (grade.value, grade.status) == (None, "not_applicable")


@pytest.mark.parametrize("given", ["1", [1.0], {"a": 1}, math.nan, math.inf, -math.inf, object()])
def test_anything_else_is_an_error(given: Any) -> None:
    grade = graded(lambda completion: given)
    assert (grade.value, grade.status) == (None, "error")
    assert str(grade.reason).startswith("mine gave ")


def test_what_it_raises_is_an_error() -> None:
    grade = graded(lambda completion: 1 / 0)
    assert (grade.value, grade.status) == (None, "error")
    assert str(grade.reason).startswith("ZeroDivisionError")


def test_trl_s_functions_are_called_once_a_group_with_lists() -> None:
    calls = []

    def lengths(completions: list[str], prompts: list[str], answer: list[str], **columns: Any) -> list[float]:
        calls.append((completions, prompts, answer, columns))
        return [float(len(text)) for text in completions]

    texts = [c.text for c in ROW.completions]
    assert [g.value for g in graded_all(lengths)] == [float(len(t)) for t in texts]
    ((completions, prompts, answer, columns),) = calls
    assert (completions, prompts, answer) == (texts, ["how many ?"] * 2, ["7", "7"])
    assert columns["label"] == [ROW.label] * 2
    assert columns["completion_ids"] == [c.token_ids for c in ROW.completions]


def test_trl_s_functions_of_conversations_say_so() -> None:
    def last(prompts: list[list[dict[str, str]]], completions: Any) -> list[float]:
        assert prompts[0][-1] == {"role": "user", "content": "how many ?"}
        return [float(turns[0]["content"].endswith("8")) for turns in completions]

    assert [g.value for g in graded_all(last)] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([1.0], "1 values for 2 completions"),
        ([1.0] * 3, "3 values for 2"),
        (1.0, "a float for 2"),
        (None, "a NoneType"),
    ],
)
def test_a_list_of_another_length_is_an_error_of_all(given: Any, reason: str) -> None:
    grades = graded_all(lambda completions: given)
    assert [g.status for g in grades] == ["error"] * 2
    assert all(reason in str(g.reason) for g in grades)


def test_one_bad_value_of_a_group_is_one_error() -> None:
    first, second = graded_all(lambda completions: [math.nan, None])
    assert (first.status, second.status) == ("error", "not_applicable")
    first, second = graded_all(lambda completions: [0.5, "x"])
    assert (first.value, second.status) == (0.5, "error")


@pytest.mark.parametrize("thing", [3, "text", None, int, lambda colour: 1, lambda completions, colour: []])
def test_what_can_t_be_a_verifier_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError):
        adapt("mine", thing)
