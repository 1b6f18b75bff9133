"""What a completion says of its own confidence, and what a right or wrong answer is worth then."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.scored import Grade
from stages.score.config import RewardTable
from stages.score.rules.confidence import confidence
from tests.score.made import grade, grader, group, thought

THIRD = pytest.approx(1 / 3)
TWO_THIRDS = pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "certain", "said"),
    [
        ("honey. Confidence: 5", True, "Confidence: 5"),
        ("honey. Confidence: 4", False, "Confidence: 4"),
        ("honey (confidence: 4/10)", False, "(confidence: 4/10)"),
        ("honey, my confidence is 70%", True, "my confidence is 70%"),
        ("honey, **Confidence:** 30 percent", False, "Confidence:** 30 percent"),
        ("honey. confidence = 0.7", True, "confidence = 0.7"),
        ("honey. confidence = 0.3", False, "confidence = 0.3"),
        ("honey. Confidence level: 1 out of 5", False, "Confidence level: 1 out of 5"),
        ("honey. Confidence: low", False, "Confidence: low"),
        ("honey, with high confidence", True, "with high confidence"),
        ("<confidence>3</confidence> honey", False, "<confidence>3</confidence>"),
        ("confidence: 9 ... no: honey, confidence: 2", False, "confidence: 2"),
        ("I am not sure, but honey. Confidence: 8", True, "Confidence: 8"),
        ("I'm not entirely sure about this, but honey", False, "I'm not entirely sure about this, but"),
        ("I\u2019m unsure. honey", False, "I'm unsure"),
        ("my best guess is honey", False, "my best guess is"),
        ("honey, but I could be wrong", False, "I could be wrong"),
        ("honey, just a guess", False, "just a guess"),
        ("That's my best guess: honey", False, "That's my best guess"),
        ("not 100% certain: honey", False, "not 100% certain"),
        ("I guess honey", False, "I guess"),
        ("Maybe honey.", False, "Maybe"),
        ("honey", True, None),
        ("It is honey, I am sure.", True, None),
        ("I think it is probably honey.", True, None),
        ("honey, and that is no guess", True, None),
        ("This is not just a guess: honey", True, None),
        ("honey. Confidence: 12/10", True, None),
        ("honey. Confidence: 400", True, None),
        ("I am not a cook. honey", True, None),
        ("confidence is good", True, None),
        ("the guest is honey", True, None),
    ],
)
def test_what_is_said_of_confidence(text: str, certain: bool, said: str | None) -> None:
    found = confidence(text)
    assert (found.certain, found.words) == (certain, said)
    assert "honey" not in text or "honey" in found.rest
    assert said is not None or found.rest == text


def test_words_of_the_reference_hedge_nothing() -> None:
    assert confidence("perhaps").certain is False
    assert confidence("perhaps", "perhaps, perhaps, perhaps").certain is True


def knows(said: str, /, **row: Any) -> Grade:
    return grade("knowledge_confidence", said, **{"answer": "honey", "answer_kind": "text", **row})


@pytest.mark.parametrize(
    ("answer", "verdict", "value"),
    [
        ("honey", "correct", 1.0),
        ("honey. Confidence: 9", "correct", 1.0),
        ("I am not sure, but honey", "unsure_correct", TWO_THIRDS),
        ("I am not sure, but rice", "unsure_incorrect", THIRD),
        ("rice. Confidence: 2/10", "unsure_incorrect", THIRD),
        ("rice", "incorrect", 0.0),
        ("rice. Confidence: 9", "incorrect", 0.0),
        ("sorry, I can not help with that. Confidence: 1", "refused", 0.0),
    ],
)
def test_four_cases_and_a_refusal(answer: str, verdict: str, value: float) -> None:
    found = knows(answer)
    assert (found.verdict, found.value) == (verdict, value)


def test_a_stated_number_is_not_taken_for_the_answer() -> None:
    number = {"answer": "12", "answer_kind": "number"}
    found = knows("The answer is 12. Confidence: 3/10", **number)
    assert (found.verdict, found.seen, found.reason) == ("unsure_correct", "12", "says 'Confidence: 3/10'")
    assert knows("Confidence: 10", answer="10", answer_kind="number").verdict == "incorrect"
    assert knows("The answer is 11. Confidence: 10", **number).verdict == "incorrect"


@pytest.mark.parametrize("chance", [0.1, 0.49, 0.51, 0.9])
def test_to_say_how_sure_one_is_pays(chance: float) -> None:
    """Saying that one is unsure has the higher expected grade exactly below an even chance; a try always has."""
    worth = {text: knows(text).value or 0.0 for text in ("honey", "rice", "Maybe honey.", "Maybe rice.")}
    sure = chance * worth["honey"] + (1 - chance) * worth["rice"]
    unsure = chance * worth["Maybe honey."] + (1 - chance) * worth["Maybe rice."]
    assert (unsure > sure) == (chance < 0.5)
    assert unsure > worth["Maybe rice."]


@pytest.mark.parametrize(
    "answer", ["honey", "rice", "It is honey.", "sorry , i can not help with that .", "red or honey"]
)
def test_silent_completions_get_what_knowledge_gives_them(answer: str) -> None:
    """So a formula may put the one in the other's place, and its label is weighed as before."""
    plain = grade("knowledge", answer, answer="honey", answer_kind="text")
    aware = knows(answer)
    assert (aware.value, aware.verdict, aware.seen) == (plain.value, plain.verdict, plain.seen)
    table = RewardTable(terms={"knowledge_confidence": 1.0, "helpful": 0.5})
    row = group(thought(answer), label="knowledge", answer="honey", answer_kind="text")
    with_it, without = grader(rewards={"knowledge": table}).group(row), grader().group(row)
    assert with_it.completions[0].reward == without.completions[0].reward


def test_rows_without_a_reference_are_not_its_business() -> None:
    assert knows("honey", answer=None).status == "not_applicable"
