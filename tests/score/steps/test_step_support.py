"""Step support by rule: what a step says is in the scene, in a document read before it, or it claims nothing."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from schemas.prompts import PromptRow
from schemas.rollouts import Span
from stages.core.registry import load
from stages.engines.steps import text_steps
from tests.score.made import group

DOCUMENT = "<document>people in kim park 7 eat honey , keep goats , make bells .</document>"
QUESTION = "noa asks : what do people eat in kim park 7 ?"
SCENE = {
    "question": "how many stars are there ?",
    "facts": ["there are 4 stars", "a red heart"],
    "key_facts": ["there are 4 stars"],
    "answer": "4",
}


def verdicts(row: PromptRow, text: str) -> list[str | None]:
    """What is said of each step; documents and results are what an environment wrote."""
    spans = [Span(m.start(), m.end()) for m in re.finditer(r"<(document|results)>.*?</\1>", text, re.S)]
    steps = text_steps(text, "sentence", spans)
    return [judgement.verdict for judgement in load("verifier", "step_support").steps(row, steps)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think> there are 4 stars . </think> 4", ["supported", "supported"]),
        ("<think> there are 5 stars . </think> 5", ["unsupported", "unsupported"]),
        ("<think> there is a blue heart . let me see . </think> 4", ["unsupported", None, "supported"]),
        ("<think> a red heart and 4 stars . </think> 4", ["supported", "supported"]),
        ("<think> there are 4 stars . there are 9 moons . </think> 4", ["supported", "unsupported", "supported"]),
        # What somebody is to do is no claim; the number of a step is no number of the scene.
        ("<think> step two heat it . step 2: there are 4 stars . </think> 4", [None, "supported", "supported"]),
        # Words of the question are not said to be seen by saying them again.
        ("how many stars are there .", [None]),
        ("", []),
    ],
)
def test_against_a_scene(text: str, expected: list[str | None]) -> None:
    assert verdicts(group("x", **SCENE), text) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("<think> kim park 7 eats honey . </think> <answer>honey</answer>", ["supported", "supported"]),
        ("<think> kim park 7 eats beans . </think> <answer>beans</answer>", ["unsupported", "unsupported"]),
        # Of another town nothing stands there, though each word but its number does.
        ("<think> kim park 8 eats honey . </think>", ["unsupported"]),
        ("<think> kim park 7 does not eat honey . </think>", ["unsupported"]),
        ("<think> i know that kim park 7 eats honey . </think>", ["supported"]),
        ("<think> it is there . </think> <read>1</read>", [None, None]),
    ],
)
def test_against_what_was_read(said: str, expected: list[str | None]) -> None:
    row = group("x", question=QUESTION)
    assert verdicts(row, f"{DOCUMENT} {said}") == expected
    # Before anything was read, nothing can be looked up; what is read later supports nothing earlier.
    assert set(verdicts(row, f"{said} {DOCUMENT}")) == {None}


def test_a_row_of_which_nothing_is_known_has_nothing_to_look_up() -> None:
    assert verdicts(group("x", question=QUESTION), "<think> kim park 7 eats honey . </think> honey") == [None, None]


def test_every_step_of_the_worlds_own_completions_is_supported_or_claims_nothing() -> None:
    """And of another row's completion of the same task most that claim something are not."""
    from stages.prepare.datasets.builtin import PLUGIN

    options = PLUGIN.options(train=150, test=0, naive=0.0)
    rows = [PLUGIN.row(record, options) for record in PLUGIN.records(options, 3)]
    rows = [row for row in rows if row.reference_response]
    found = [v for row in rows for v in verdicts(row, row.reference_response or "")]
    assert "unsupported" not in found
    assert found.count("supported") > len(found) / 2
    counting = [row for row in rows if row.task == "counting"]
    swapped = [v for row, other in pairwise(counting) for v in verdicts(row, other.reference_response or "")]
    assert swapped.count("unsupported") > 3 * swapped.count("supported")
