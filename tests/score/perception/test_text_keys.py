"""text_keys: a fact that the words tell counts where its numbers stand with one more word of it."""

from __future__ import annotations

import pytest

from stages.world.chance import rng_for
from stages.world.general import word_arithmetic
from tests.score.perception.made import described, graded, group_of

NOA = {
    "question": "noa has 6 shells and finds 4 at the lake . how many shells are left ?",
    "text_keys": ["noa has 6 shells", "noa finds 4"],
    "key_facts": ["6 plus 4 is 10"],
    "answer": "10",
    "images": [],
}
HEAT = {"question": "how do i heat this ?", "text_keys": ["you want to heat it"]}
THREE = {"question": "ann buys 3 stars . what does she pay ?", "text_keys": ["3 stars"]}


@pytest.mark.parametrize(
    ("think", "row", "expected"),
    [
        ("noa has 6 shells . noa finds 4 . 6 plus 4 is 10 .", NOA, 1.0),
        ("She starts with six shells, and then finds four more.", NOA, 1.0),
        ("noa has 6 shells .", NOA, 0.5),
        ("6 plus 4 is 10 .", NOA, 0.0),
        ("noa has 5 shells . noa finds 3 .", NOA, 0.0),
        ("noa has 6 shells . noa has 5 shells . noa finds 4 .", NOA, 0.5),
        ("noa has 1 2 3 4 5 6 7 8 9 shells and finds 1 2 3 4 5 6 7 8 9 .", NOA, 0.0),
        ("noa does not have 6 shells . noa finds 4 .", NOA, 0.5),
        ("you want to heat it .", HEAT, 1.0),
        ("you want to grind it .", HEAT, 0.0),
        ("ann buys 3 stars , and a star costs 4 .", THREE, 1.0),
        ("ann buys three stars .", THREE, 1.0),
        ("ann buys 3 hearts .", THREE, 0.0),
        ("", NOA, 0.0),
    ],
)
def test_by_hand(think, row, expected):
    assert graded("text_keys", described("a card", think or " "), row).value == expected


def test_numbers_that_are_tried_in_one_breath_tell_nothing():
    tried = described("a card", "at home noa has 6 7 shells , and noa finds 4 .")
    assert graded("text_keys", tried, NOA, settings={"keys": {"graded": True}}).value == 0.5


def test_it_reads_the_think_block_alone_and_wants_keys():
    told = "noa has 6 shells . noa finds 4 ."
    assert graded("text_keys", described(told, "so", told), NOA).value == 0.0
    assert graded("text_keys", described("x"), {"question": "what ?"}).status == "not_applicable"
    assert graded("text_keys", f"<think> {told} </think> 10", NOA, "think").value == 1.0


def test_the_world_s_keys_state_themselves_and_bare_results_do_not():
    for i in range(30):
        row = group_of(word_arithmetic(rng_for("told", i)))
        assert graded("text_keys", described("none", " . ".join(row.text_keys)), row).value == 1.0
        assert graded("text_keys", described("none", row.key_facts[0]), row).value == 0.0, row.text_keys
