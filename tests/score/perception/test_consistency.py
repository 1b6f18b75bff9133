"""consistency: what is reasoned with has been described or told, results of calculation included."""

from __future__ import annotations

import pytest

from stages.world.chance import rng_for
from stages.world.general import comparison, counting, drawn_arithmetic, word_arithmetic
from tests.score.perception.made import described, graded, group_of

SUM = {"question": "work this out .", "visual_keys": ["3 plus 5"], "key_facts": ["3 plus 5 is 8"]}
PRICE = {
    "question": "ann buys 3 stars . what does she pay ?",
    "visual_keys": ["a star costs 4"],
    "text_keys": ["3 stars"],
    "key_facts": ["a star costs 4", "3 times 4 is 12"],
}
ASKED = {**PRICE, "question": "what do 3 stars cost ?"}
COLOUR = {"question": "what colour is the square ?", "visual_keys": ["the square is orange"]}


@pytest.mark.parametrize(
    ("description", "think", "answer", "row", "expected"),
    [
        ("3 plus 5", "3 plus 5 is 8", "8", SUM, 1.0),
        ("3 plus 5", "3 plus 5 is 9", "9", SUM, 3 / 4),
        ("3 plus 5", "3 plus 6 is 9", "9", SUM, 0.0),
        ("a sum", "3 plus 5 is 8", "8", SUM, 0.0),
        ("a star costs 4", "3 stars cost 12 . 3 times 4 is 12 .", "12", PRICE, 1.0),
        ("a star costs 4", "3 stars . 3 stars cost 12 .", "12", ASKED, 1.0),
        ("a star costs 1", "3 stars . 3 stars cost 3 .", "3", ASKED, 1.0),
        ("a star costs 4", "2 stars . 3 stars cost 12 .", "12", ASKED, 0.0),
        ("a star costs 4", "a star costs 5 . 3 times 5 is 15 .", "15", PRICE, 0.0),
        ("the square is orange", "the square is orange", "orange", COLOUR, 1.0),
        ("the square is orange", "the square is blue", "blue", COLOUR, 0.0),
        ("a shape", "the square is blue", "blue", COLOUR, 0.5),
        ("the square is orange", "let me see", "none", COLOUR, 0.0),
    ],
)
def test_by_hand(description, think, answer, row, expected):
    found = graded("consistency", described(description, think, answer), row)
    assert found.value == pytest.approx(expected), found


def test_a_conflict_says_what_is_at_odds_and_the_layout_think_has_none():
    found = graded("consistency", described("there are 5 stars . a red heart", "there are 4 stars"), {})
    assert (found.verdict, found.value, found.reason) == ("conflict", 0.0, "at odds with the description: 4 star")
    swapped = described("there are 5 stars . there are 3 hearts .", "there are 3 stars .", "hearts")
    assert graded("consistency", swapped, {}).verdict == "conflict"
    assert graded("consistency", "<think> x </think> 4", SUM, "think").status == "not_applicable"


@pytest.mark.parametrize("draw", [counting, comparison, drawn_arithmetic, word_arithmetic])
def test_right_completions_of_the_world_are_wholly_supported(draw):
    for i in range(30):
        case = draw(rng_for("consistent", draw.__name__, i))
        think = " . ".join([*case.text_keys, *case.key_facts])
        text = described(" . ".join(case.visual_keys) or "nothing", think, case.right)
        assert graded("consistency", text, group_of(case)).value == 1.0, text
