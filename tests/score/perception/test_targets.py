"""The built-in world's own descriptions earn every term of the recipe, and vague ones all but what is to be seen."""

from __future__ import annotations

import pytest

from stages.world.chance import rng_for
from stages.world.facts import draw as knowledge
from stages.world.general import colours, comparison, counting, drawn_arithmetic, prices, reading, word_arithmetic
from tests.score.perception.made import graded, group_of

FOUR = {"repetition": {"words": 4}}


@pytest.mark.parametrize(
    "draw", [counting, colours, comparison, reading, drawn_arithmetic, word_arithmetic, prices, knowledge]
)
def test_described_targets_earn_what_the_recipe_rewards(draw):
    for i in range(25):
        case = draw(rng_for("targets", draw.__name__, i))
        row = group_of(case)
        for vague in (False, True):
            said = case.described(case.right, vague)
            wanted = {"answer": 1.0, "format": 1.0, "text_keys": 1.0, "repetition": 0.0}
            wanted["visual_keys"] = 0.0 if vague else 1.0
            for verifier, value in wanted.items():
                grade = graded(verifier, said, row, settings=FOUR)
                assert grade.value == value or grade.status == "not_applicable", (said, grade)
            assert graded("visual_keys", said, row).status == ("ok" if case.visual_keys else "not_applicable")
            assert graded("text_keys", said, row).status == ("ok" if case.text_keys else "not_applicable")
            consistent = graded("consistency", said, row)
            assert consistent.verdict != "conflict", (said, consistent)
            if not vague:
                assert consistent.value == 1.0 or draw is knowledge, (said, consistent)


def test_a_price_card_needs_both_kinds_of_key_for_its_reward():
    case = prices(rng_for("targets", "both"))
    row = group_of(case)
    seen, told = case.visual_keys[0], case.text_keys[0]
    swapped = f"<description> {told} . </description> <think> {seen} . </think> <answer> {case.right} </answer>"
    assert graded("answer", swapped, row).value == 1.0
    assert (graded("visual_keys", swapped, row).value, graded("text_keys", swapped, row).value) == (0.0, 0.0)
