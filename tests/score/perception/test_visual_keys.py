"""visual_keys: by hand, its settings, and that listing everything earns at most half."""

from __future__ import annotations

import itertools

import pytest

from stages.world import hazards
from stages.world.chance import rng_for
from stages.world.facts import draw as knowledge
from stages.world.general import colours, comparison, counting, drawn_arithmetic, prices, reading, there
from stages.world.lexicon import COLOUR_WORDS, SHAPES
from stages.world.sampling import sample_pairs
from tests.score.perception.made import described, graded, group_of

TWO = {
    "question": "are there more circles or hearts ?",
    "visual_keys": ["there are 5 circles", "there are 4 hearts"],
    "facts": ["a green circle"] * 5 + ["an orange heart"] * 4,
}
SUM = {"question": "work this out .", "visual_keys": ["3 plus 5"], "key_facts": ["3 plus 5 is 8"], "answer": "8"}
SIGN = {"question": "what do people eat here ?", "visual_keys": ["a red star"], "facts": ["a sign with a red star"]}


@pytest.mark.parametrize(
    ("description", "row", "expected"),
    [
        ("there are 5 circles . there are 4 hearts .", TWO, 1.0),
        ("I see five green circles and four hearts.", TWO, 1.0),
        ("there are 5 circles .", TWO, 0.5),
        ("there are 5 circles . there are 3 hearts .", TWO, 0.5),
        ("there are 4 circles . there are 5 hearts .", TWO, 0.0),
        ("shapes .", TWO, 0.0),
        ("3 plus 5", SUM, 1.0),
        ("3 + 5", SUM, 1.0),
        ("3 minus 5", SUM, 0.0),
        ("3 plus 6", SUM, 0.0),
        ("a red star", SIGN, 1.0),
        ("a blue star", SIGN, 0.0),
    ],
)
def test_by_hand(description, row, expected):
    assert graded("visual_keys", described(description), row).value == expected


def test_only_the_description_counts_where_there_is_one_and_the_think_block_where_the_layout_has_none():
    elsewhere = described("shapes .", think="there are 5 circles . there are 4 hearts .")
    assert graded("visual_keys", elsewhere, TWO).value == 0.0
    broken = "<think> there are 5 circles . there are 4 hearts . </think> circles"
    assert graded("visual_keys", broken, TWO).value == 0.0
    assert graded("visual_keys", broken, TWO, "think").value == 1.0


def test_the_thresholds_are_settings_and_the_share_itself_is_one():
    half = described("there are 5 circles .")
    found = graded("visual_keys", half, TWO)
    assert (found.value, found.verdict, found.seen) == (0.5, "some", "1/2 facts")
    assert graded("visual_keys", half, TWO, settings={"keys": {"low": 0.6}}).value == 0.0
    lenient = graded("visual_keys", half, TWO, settings={"keys": {"high": 0.5}})
    assert lenient.value == 1.0
    # Other settings are another version, or grades of before would be kept.
    assert lenient.version != found.version
    third = {**TWO, "visual_keys": [*TWO["visual_keys"], "there is 1 star"]}
    assert graded("visual_keys", half, third).value == 0.0
    assert graded("visual_keys", half, third, settings={"keys": {"graded": True}}).value == pytest.approx(1 / 3)


def test_what_it_does_not_apply_to():
    assert graded("visual_keys", described("x"), {"question": "what ?"}).status == "not_applicable"
    assert graded("visual_keys", described("x"), {**SIGN, "images": []}).status == "not_applicable"
    told = {"question": "is the word soap ?", "visual_keys": ["the word is soap"]}
    assert graded("visual_keys", described("x"), told).reason == "the words alone give every visual key"


EVERYTHING = [
    *(there(n, shape) for shape, n in itertools.product(SHAPES, range(1, 7))),
    *(f"the {shape} is {colour}" for shape, colour in itertools.product(SHAPES, COLOUR_WORDS)),
    *(f"a {colour} {shape}" for shape, colour in itertools.product(SHAPES, COLOUR_WORDS)),
    *(f"the word is {word}" for word in (*hazards.HAZARDS, *hazards.USES)),
    *(f"it is {thing}" for thing in (*hazards.HAZARDS, *hazards.USES, *hazards.TWOFOLD)),
    *(f"a {shape} costs {n}" for shape, n in itertools.product(SHAPES, range(1, 7))),
    *(f"{a} {sign} {b}" for a, sign, b in itertools.product(range(7), ("plus", "minus"), range(7))),
]
LISTS = (
    " . ".join(EVERYTHING),
    " ".join([*SHAPES, *SHAPES.values(), *COLOUR_WORDS, *map(str, range(13)), *hazards.HAZARDS, *hazards.USES]),
)


@pytest.mark.parametrize("listed", LISTS)
def test_a_completion_that_lists_everything_earns_at_most_half(listed):
    drawn = [draw(rng_for("list", draw.__name__, i)) for draw in (counting, colours, comparison, reading,
             drawn_arithmetic, prices, knowledge) for i in range(5)]  # fmt: skip
    rows = [group_of(c) for c in (*drawn, *itertools.chain(*sample_pairs(40, 3))) if c.visual_keys]
    assert len({r.task for r in rows}) >= 10
    for row in rows:
        for settings in ({}, {"keys": {"graded": True}}):
            lists = graded("visual_keys", described(listed), row, settings=settings)
            assert (lists.value or 0.0) <= 0.5, (row.visual_keys, lists)
        plain = graded("visual_keys", described(" . ".join(row.visual_keys)), row)
        assert plain.value == 1.0 or plain.status == "not_applicable", (row.visual_keys, plain)
