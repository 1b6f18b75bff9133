"""visual_focus: what it credits, what it does not, and that it cannot be earned by listing everything."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.arrow import hints
from schemas.prompts import PromptRow
from schemas.rollouts import RolloutGroup
from schemas.scored import Grade
from schemas.values import Image
from stages.core.registry import load
from stages.judging.parsed import parse_completion
from stages.world.lexicon import think
from stages.world.sampling import sample_pairs
from tests.score.made import completion, group

IMAGE = [Image(b"png")]
FIVE_CIRCLES = {
    "question": "are there more circles or hearts ?",
    "key_facts": ["there are 5 circles", "there are 4 hearts"],
    "facts": ["a green circle"] * 5 + ["an orange heart"] * 4,
}
SQUARE = {
    "question": "what colour is the square ?",
    "key_facts": ["the square is orange"],
    "facts": ["an orange square", "a blue star"],
}
TWILL = {
    "question": "how do i grind this ?",
    "key_facts": ["it is twill", "you want to grind it", "that makes soap"],
    "facts": ["a picture of twill", "it is twill", "you want to grind it", "that makes soap"],
    "answer": "use a flat stone",
}
ONE_STAR = {"question": "count the stars .", "key_facts": ["there is 1 star"], "facts": ["a red star"]}
LEFT = {
    "question": "where is the star ?",
    "key_facts": ["the star is left of the heart"],
    "facts": ["a red star", "a red heart", "the star is left of the heart"],
}


def focus(text: str, row: dict[str, Any]) -> Grade:
    """The grade of a raw completion."""
    made = group(text, images=IMAGE, **row)
    return load("verifier", "visual_focus").grade(made, made.completions[0], parse_completion(text))


def value(text: str, row: dict[str, Any]) -> float:
    found = focus(text, row)
    assert found.status == "ok", found
    assert found.value is not None
    assert 0 <= found.value <= 1
    return found.value


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("<think> there are 5 circles . there are 4 hearts . </think> circles", FIVE_CIRCLES, 1.0),
        ("<think>I count five green circles and four hearts.</think> circles", FIVE_CIRCLES, 1.0),
        ("<think>Circles: 5, hearts: 4.</think> circles", FIVE_CIRCLES, 1.0),
        ("<think> there are 5 circles . </think> circles", FIVE_CIRCLES, 0.5),
        ("<think> there are 4 circles . there are 4 hearts . </think> circles", FIVE_CIRCLES, 1 / 3),
        ("<think> there are 5 hearts . there are 4 circles . </think> circles", FIVE_CIRCLES, 0.0),
        ("<think> five circles , one heart . </think> circles", FIVE_CIRCLES, 0.5),
        ("<think> let me see . </think> circles", FIVE_CIRCLES, 0.0),
        ("", FIVE_CIRCLES, 0.0),
        ("<think> the square is orange . </think> orange", SQUARE, 1.0),
        ("<think> i see an orange square and a blue star . </think> ORANGE", SQUARE, 1.0),
        ("orange", SQUARE, 1.0),
        ("<think> the square is blue . </think> blue", SQUARE, 0.0),
        ("<think> the square is not orange . </think> yes", SQUARE, 0.0),
        ("<think> the square is orange . the star is red . </think> orange", SQUARE, 0.5),
        ("<think> it is twill . that makes soap . </think> use a flat stone", TWILL, 1.0),
        ("<think> it is morb . that makes soap . </think> use a flat stone", TWILL, 0.5),
        ("<think> there is one star . </think> 1", ONE_STAR, 1.0),
        ("<think> there are 2 stars . </think> 2", ONE_STAR, 0.0),
        ("<think> there are no stars . </think> 0", ONE_STAR, 0.0),
        ("<think> the star is left of the heart . </think> there", LEFT, 1.0),
        ("<think> the heart is right of the star . </think> there", LEFT, 1.0),
        ("<think> the heart is left of the star . </think> there", LEFT, 0.0),
    ],
)
def test_by_hand(text: str, row: dict[str, Any], expected: float) -> None:
    assert value(text, row) == pytest.approx(expected)


def test_what_it_does_not_apply_to() -> None:
    verifier = load("verifier", "visual_focus")
    no_image = group("x", **TWILL)
    assert verifier.grade(no_image, no_image.completions[0], parse_completion("x")).status == "not_applicable"
    assert focus("x", {"question": "what is it ?"}).status == "not_applicable"
    given = focus("it is grimor", {"question": "how do i use grimor ?", "key_facts": ["it is grimor"]})
    assert (given.status, given.reason) == ("not_applicable", "the words alone give every key fact")


def test_the_verdict_says_what_was_found() -> None:
    good = focus("<think> there are 5 circles . </think> circles", FIVE_CIRCLES)
    assert (good.verdict, good.seen, good.reason) == ("some", "1/2 facts, 0 false", None)
    bad = focus("<think> there are 5 circles . there are 3 hearts . </think> circles", FIVE_CIRCLES)
    assert (bad.verdict, bad.seen) == ("contradicted", "1/2 facts, 1 false")
    assert bad.reason == "at odds with the scene: 3 heart"


@pytest.mark.parametrize(
    ("row", "listing"),
    [
        (FIVE_CIRCLES, [f"there are {n} {s} ." for n in range(1, 7) for s in ("circles", "hearts", "stars")]),
        (SQUARE, [f"the square is {c} ." for c in ("red", "blue", "green", "orange", "black")]),
        (SQUARE, ["the square is red or blue or green or orange ."]),
        (TWILL, [f"it is {t} ." for t in ("grelt", "morb", "pluff", "twill", "vexol", "grimor")]),
        (TWILL, ["it is grelt , morb , pluff , twill , vexol , grimor , zarnex ."]),
        (TWILL, ["grelt morb pluff twill vexol grimor zarnex drobin snarka klorim"]),
    ],
)
def test_listing_everything_earns_less_than_one_guess_in_two(row: dict[str, Any], listing: list[str]) -> None:
    """Beside `there are ...` for the row's other facts a listing must not beat an honest even guess."""
    assert value(f"<think> {' '.join(listing)} </think> x", row) <= 0.17


def test_a_flood_of_words_costs() -> None:
    flood = " ".join(f"zo{chr(97 + a)}{chr(97 + b)}o ." for a in range(20) for b in range(20))
    plain = "<think> there are 5 circles . there are 4 hearts . {} </think> circles"
    assert value(plain.format("so there are more of them , as anybody can see ."), FIVE_CIRCLES) == 1.0
    assert value(plain.format(flood), FIVE_CIRCLES) == pytest.approx(100 / 400)


def rows() -> list[RolloutGroup]:
    """Pictured rows of every kind that the built-in world draws."""
    made = [case.row("train", 28, None) for pair in sample_pairs(count=120, seed=3) for case in pair if case.scene]
    names = hints(PromptRow)
    groups = [RolloutGroup(**{n: getattr(row, n) for n in names}) for row in made]
    return [g for g in groups if graded(g, "x").status == "ok"]


def graded(row: RolloutGroup, text: str) -> Grade:
    return load("verifier", "visual_focus").grade(row, completion(text), parse_completion(text))


ROWS = rows()
FILLER = ["let me see", "so more of them", "sorry", "use a flat stone", "it is dangerous", "a red star", "soap"]


def graded_value(row: RolloutGroup, statements: list[str]) -> float:
    found = graded(row, think(statements, "ok")).value
    assert found is not None
    return found


def test_stating_the_key_facts_is_worth_one_on_every_row() -> None:
    assert len({row.task for row in ROWS}) > 8
    assert {graded_value(row, row.key_facts) for row in ROWS} == {1.0}


@st.composite
def completions(draw: st.DrawFn) -> tuple[RolloutGroup, list[str]]:
    """A row and statements: some of its facts, some of other rows', some words."""
    row, other = draw(st.sampled_from(ROWS)), draw(st.sampled_from(ROWS))
    pool = [*row.key_facts, *row.facts, *other.key_facts, *other.facts, *FILLER]
    return row, draw(st.lists(st.sampled_from(pool), max_size=7))


def test_one_thing_put_in_two_ways_is_a_guess_whichever_comes_first() -> None:
    """`an image of soap` is no guess at what is needed; `it is soap` is, and has the same content words."""
    row = next(r for r in ROWS if r.task == "both_risk" and r.key_facts[0].startswith("it is "))
    said = [row.key_facts[0], "a picture of soap", "it is soap"]
    values = {graded_value(row, list(order)) for order in itertools.permutations(said)}
    assert values == {graded_value(row, said[:1]) / 2}
    assert graded_value(row, said[:2]) == graded_value(row, said[:1])


@given(completions(), st.randoms(use_true_random=False))
def test_order_does_not_matter(drawn: tuple[RolloutGroup, list[str]], random: Any) -> None:
    row, said = drawn
    before = graded_value(row, said)
    shuffled, facts, keys = list(said), list(row.facts), list(row.key_facts)
    for items in (shuffled, facts, keys):
        random.shuffle(items)
    names = hints(PromptRow)
    other = RolloutGroup(**{n: getattr(row, n) for n in names} | {"facts": facts, "key_facts": keys})
    assert graded_value(other, shuffled) == pytest.approx(before)


@given(completions(), st.data())
def test_a_needed_fact_never_lowers(drawn: tuple[RolloutGroup, list[str]], data: st.DataObject) -> None:
    row, said = drawn
    more = data.draw(st.sampled_from(row.key_facts))
    assert graded_value(row, [*said, more]) >= graded_value(row, said) - 1e-9


COLOURS = ["red", "blue", "green", "yellow", "purple", "orange", "black"]


def falsified(fact: str, colour: str, number: int) -> str:
    """The fact with its colour or its count exchanged; unchanged where it has neither."""
    words = [colour if w in COLOURS else str(number) if w.isdigit() else w for w in fact.split()]
    return " ".join(words)


@given(completions(), st.sampled_from(COLOURS), st.integers(2, 9), st.data())
def test_a_false_fact_never_raises(
    drawn: tuple[RolloutGroup, list[str]], colour: str, number: int, data: st.DataObject
) -> None:
    row, said = drawn
    fact = data.draw(st.sampled_from([*row.key_facts, *row.facts]))
    wrong = falsified(fact, colour, number)
    if wrong in row.key_facts or wrong in row.facts or wrong == fact:
        return
    assert graded_value(row, [*said, wrong]) <= graded_value(row, said) + 1e-9
