"""value, knowledge, instruction, and what every verifier owes its caller."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.rollouts import Completion, RolloutGroup
from schemas.values import Image
from stages.core.errors import UnavailableError
from stages.core.registry import load, names, summary
from stages.judging.instructions.builtin import items
from stages.judging.instructions.find import family_of
from stages.judging.parsed import ParsedCompletion, parse_completion
from stages.score.answers.algebra.math_pool import JobFailed, TimedOut
from stages.score.rules.instructions.check import check_all, loose_variants, obeyed_loosely
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, judged
from tests.score.made import grade, group, thought
from tests.support.cli import SHARED

KIND: dict[str, Any] = {
    "answer": "B",
    "answer_kind": "choice",
    "choices": ["laugh at ann", "help ann up"],
    "label": "value",
}


@pytest.mark.parametrize(
    ("answer", "verdict", "value"),
    [
        ("help ann up", "good", 1.0),
        ("b", "good", 1.0),
        ("i would help ann up .", "good", 1.0),
        ("laugh at ann", "bad", 0.0),
        ("(A)", "bad", 0.0),
        ("laugh at ann or help ann up", "unparsable", 0.0),
        ("go home", "unparsable", 0.0),
        ("", "unparsable", 0.0),
    ],
)
def test_value(answer: str, verdict: str, value: float) -> None:
    found = grade("value", answer, **KIND)
    assert (found.verdict, found.value) == (verdict, value)


def test_value_without_options_compares_with_the_reference() -> None:
    fields: dict[str, Any] = {"answer": "help", "answer_kind": "text"}
    assert grade("value", "help", **fields).verdict == "good"
    assert grade("value", "shout", **fields).verdict == "bad"
    assert grade("value", "help").status == "undecided"


@pytest.mark.parametrize(
    ("answer", "verdict", "value"),
    [
        ("honey", "correct", 1.0),
        ("rice", "incorrect", 0.0),
        ("sorry , i can not help with that .", "refused", 0.0),
    ],
)
def test_knowledge(answer: str, verdict: str, value: float) -> None:
    found = grade("knowledge", answer, answer="honey", answer_kind="text")
    assert (found.verdict, found.value) == (verdict, value)


def followed(answer: str, kind: str, **given: Any) -> bool:
    found = grade("instruction", answer, instructions=[json.dumps({"kind": kind, **given})])
    assert found.status == "ok", found
    assert (found.verdict == "followed") == (found.value == 1.0)
    return found.value == 1.0


WORDY = "word " * 12
OBEYED_BROKEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "one_word": ({}, "red .", "the circle is red"),
    "capitals": ({}, "RED !", "Red"),
    "k_items": ({"k": 3}, "red , blue and green", "red , blue"),
    "keywords:existence": ({"keywords": ["Fox", "hen"]}, "a hen, a fox", "a hen"),
    "keywords:frequency": ({"keyword": "fox", "frequency": 2, "relation": "at least"}, "fox Fox", "fox"),
    "keywords:forbidden_words": ({"forbidden_words": ["fox"]}, "foxes", "a Fox ."),
    "keywords:letter_frequency": (
        {"letter": "e", "let_frequency": 2, "let_relation": "less than"}, "hen", "eel egg",
    ),
    "length_constraints:number_sentences": (
        {"num_sentences": 2, "relation": "at least"}, "Dr. Fox ran. He won!", "Dr. Fox ran",
    ),
    "length_constraints:number_words": ({"num_words": 10, "relation": "at least"}, WORDY, "too few words"),
    "length_constraints:number_paragraphs": ({"num_paragraphs": 2}, "one\n***\ntwo", "one\n\ntwo"),
    "length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "but"}, "yes .\n\nBut, no .",
        "yes .\n\nso no .",
    ),
    "detectable_content:number_placeholders": ({"num_placeholders": 2}, "[name] at [place]", "[name]"),
    "detectable_content:postscript": ({"postscript_marker": "P.S."}, "bye\nP. S. more", "bye"),
    "detectable_format:number_bullet_lists": ({"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    "detectable_format:constrained_response": ({}, "My answer is maybe.", "maybe"),
    "detectable_format:number_highlighted_sections": ({"num_highlights": 2}, "*a* and *b*", "*a* and **"),
    "detectable_format:multiple_sections": (
        {"section_spliter": "Section", "num_sections": 2}, "Section 1 a Section 2 b", "Section 1 a",
    ),
    "detectable_format:json_format": ({}, '```json\n{"a": 1}\n```', "{a: 1}"),
    "detectable_format:title": ({}, "<<ode>>\nwords", "<< >>\nwords"),
    "combination:two_responses": ({}, "one ****** two", "one ****** one"),
    "combination:repeat_prompt": ({"prompt_to_repeat": "Say it."}, "say it. I said it.", "I said it."),
    "startend:end_checker": ({"end_phrase": "Any more?"}, "Yes. any more?", "Any more? Yes."),
    "startend:quotation": ({}, '"quoted"', '"half'),
    "change_case:capital_word_frequency": (
        {"capital_frequency": 2, "capital_relation": "less than"}, "ONE only", "ONE and TWO",
    ),
    "change_case:english_capital": ({}, "TODAY WE WALKED TO THE OLD HOUSE BY THE RIVER", "NOT all OF IT"),
    "change_case:english_lowercase": ({}, "this is all of it, and we know that", "ceci est une phrase dans ma langue"),
    "language:response_language": ({"language": "fr"}, "ceci est une phrase dans ma langue", "12 , 34"),
    "punctuation:no_comma": ({}, "none here", "one, here"),
}  # fmt: skip


RULES = {**family_of("builtin").checks, **family_of("ifeval").checks}
"""IFBench's: tests/judging/test_instruction_checks.py."""


def test_every_kind_has_its_case() -> None:
    assert set(OBEYED_BROKEN) == set(RULES)


@pytest.mark.parametrize("kind", RULES)
def test_instruction_kinds(kind: str) -> None:
    given, obeyed, broken = OBEYED_BROKEN[kind]
    assert followed(obeyed, kind, **given) is True
    assert followed(broken, kind, **given) is False


@given(st.lists(st.sampled_from(["red", "blue", "green hat", "big cat"]), min_size=1, max_size=4, unique=True))
def test_items_however_they_are_listed(wanted: list[str]) -> None:
    for text in (
        " , ".join(wanted) + " .",
        "\n".join(f"{n}. {w}" for n, w in enumerate(wanted, 1)),
        "\n".join(f"- {w}" for w in wanted),
        "; ".join(wanted),
    ):
        assert items(text) == wanted


def test_the_same_thing_twice_is_one_item() -> None:
    assert not followed("red , red", "k_items", k=2)


def test_all_instructions_or_none() -> None:
    two = [json.dumps({"kind": "one_word"}), json.dumps({"kind": "capitals"})]
    assert grade("instruction", "RED", instructions=two).value == 1.0
    half = grade("instruction", "red", instructions=two)
    assert (half.value, half.verdict, half.seen, half.reason) == (
        0.0, "broken", "1/2 strictly, 1/2 loosely", "broken: capitals",
    )  # fmt: skip


def test_what_is_obeyed_in_the_loose_sense_alone() -> None:
    """IFEval's loose forms drop a first or last line and asterisks; each instruction may take another form."""
    capitals = json.dumps({"kind": "capitals"})
    no_comma = json.dumps({"kind": "punctuation:no_comma"})
    found = grade("instruction", "Sure, here it is:\nTHE ANSWER IS RED", instructions=[capitals, no_comma])
    assert (found.value, found.verdict, found.seen) == (0.0, "loosely_followed", "0/2 strictly, 2/2 loosely")
    assert loose_variants("*a*\nb\nc") == ["*a*\nb\nc", "a\nb\nc", "b\nc", "b\nc", "*a*\nb", "a\nb", "b", "b"]
    assert loose_variants("one") == ["one", "one"]


@given(st.lists(st.sampled_from(["RED", "red , blue", "*", "", "one"]), max_size=4).map("\n".join))
def test_strictly_obeyed_is_loosely_obeyed(answer: str) -> None:
    for kind in ("one_word", "capitals", "punctuation:no_comma"):
        instruction = json.dumps({"kind": kind})
        if answer.strip() and check_all([instruction], answer)[0]:
            assert obeyed_loosely(instruction, answer)


def test_a_kind_without_a_rule_is_not_judged_unless_another_is_broken() -> None:
    unknown = json.dumps({"kind": "rhyme:couplets"})
    capitals = json.dumps({"kind": "capitals"})
    found = grade("instruction", "OUI", instructions=[unknown, capitals])
    assert (found.status, found.value) == ("not_applicable", None)
    assert "rhyme:couplets" in (found.reason or "")
    assert grade("instruction", "oui", instructions=[unknown, capitals]).value == 0.0
    assert grade("instruction", "oui").status == "not_applicable"


@pytest.mark.parametrize("instruction", ["capitals", "[]", "{}", json.dumps({"kind": "k_items"})])
def test_a_malformed_instruction_is_an_error_grade(instruction: str) -> None:
    found = grade("instruction", "RED", instructions=[instruction])
    assert (found.status, found.value) == ("error", None)


@pytest.mark.skipif(not SHARED.exists(), reason="public benchmark files are not beside the repository")
def test_ifevals_own_prompts_can_be_judged() -> None:
    """All 541 prompts, keys as upstream writes them: all of the 25 kinds have a rule, and nothing breaks."""
    file = SHARED / "ifeval" / "instruction_following_eval" / "data" / "input_data.jsonl"
    unknown: list[str] = []
    count = 0
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        pairs = zip(row["instruction_id_list"], row["kwargs"], strict=True)
        given = [json.dumps({"kind": kind, **kwargs}) for kind, kwargs in pairs]
        for answer in ("", "An answer, in words.\n\nP.S. more", row["prompt"]):
            obeyed, broken, none = check_all(given, answer)
            assert len(obeyed) + len(broken) + len(none) == len(given)
        unknown += none
        count += len(given)
    assert count == 834
    assert not unknown


def test_an_empty_reply_obeys_none_of_its_instructions() -> None:
    kinds = ['{"kind": "punctuation:no_comma"}', '{"kind": "one_word"}']
    found = grade("instruction", "", instructions=kinds)
    assert (found.value, found.verdict, found.seen) == (0.0, "broken", "0/2 strictly, 0/2 loosely")


RULED = [name for name in names("verifier") if isinstance(load("verifier", name), Verifier)]
"""The verifiers that need no model."""


def test_every_verifier_has_a_name_a_version_and_a_summary() -> None:
    assert set(names("verifier")) >= {
        "format", "answer", "safety", "refusal", "helpful", "value", "knowledge", "instruction", "visual_focus",
    }  # fmt: skip
    for name in names("verifier"):
        if name in RULED:
            assert load("verifier", name).name == name
            assert load("verifier", name).version >= 1
        assert summary("verifier", name).endswith(".")


PENALTIES = ("overlong", "repetition")
"""Their values are from -1 to 0, everybody else's from 0 to 1."""


@given(st.text(max_size=120), st.sampled_from(RULED))
def test_no_completion_breaks_a_verifier(text: str, name: str) -> None:
    """Any text is graded, as itself and after a think block, on a row that every verifier applies to."""
    low, high = (-1.0, 0.0) if name in PENALTIES else (0.0, 1.0)
    # Only this layout has the description that a completion is to be consistent with.
    layout = "describe" if name == "consistency" else "think"
    row = group(
        text,
        thought(text),
        answer="red",
        answer_kind="text",
        harmful=False,
        instructions=['{"kind": "one_word"}'],
        images=[Image(b"png")],
        key_facts=["the circle is red"],
        visual_keys=["the circle is red"],
        text_keys=["noa has 6 shells"],
    )
    for sample in row.completions:
        found = load("verifier", name).grade(row, sample, parse_completion(sample.text, layout))
        if name == "step_support" and found.status == "not_applicable":
            # Whether there is anything to look up is the completion's to say, and not the row's.
            assert all(step.value is None for step in found.steps or []), found
            continue
        assert found.status == "ok", found
        assert found.value is not None
        assert low <= found.value <= high


def judging(does: Any) -> Verifier:
    def judge(group: RolloutGroup, completion: Completion, parsed: ParsedCompletion) -> Judgement:
        if isinstance(does, Exception):
            raise does
        return does

    return Verifier(version=3, judge=judge)


@pytest.mark.parametrize(
    ("does", "status", "value"),
    [
        (judged(0.5, "half"), "ok", 0.5),
        (does_not_apply("no"), "not_applicable", None),
        (TimedOut("no result within 5 s"), "timeout", None),
        (JobFailed("the child process ended"), "error", None),
        (ZeroDivisionError("division by zero"), "error", None),
    ],
)
def test_a_verifiers_failure_is_a_grade(does: Any, status: str, value: float | None) -> None:
    row = group("x")
    found = judging(does).grade(row, row.completions[0], parse_completion("x"))
    assert (found.name, found.version, found.status, found.value) == (
        "test_score_verifiers",
        3,
        status,
        value,
    )
    if status in ("timeout", "error"):
        assert found.reason is not None
        assert str(does) in found.reason


def test_what_the_machine_lacks_stops_the_run() -> None:
    row = group("x")
    with pytest.raises(UnavailableError):
        judging(UnavailableError("no math-verify")).grade(row, row.completions[0], parse_completion("x"))
