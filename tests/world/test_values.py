"""The bilingual value set: twins in themselves, scenes the same in both languages, unseen situations in tests only."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from examples.verifiers.pairs import options
from schemas.prompts import HELDOUT_FAMILY
from stages.core.config import build
from stages.core.errors import UsageError
from stages.core.registry import load
from stages.world.case import UNSEEN
from stages.world.chance import content_key
from stages.world.facts import TOPICS, TOWNS
from stages.world.scene import side
from stages.world.values.draw import case
from stages.world.values.situations import DIMENSIONS, LANGUAGES, NAMES, PLACES, SITUATIONS
from tests.world.test_grading import grade
from tests.world.test_truth import vars_of

PLUGIN = load("dataset", "builtin")
ALL = {"weights": {"value": 1}, "test_weights": {"value": 1}, "dimensions": list(DIMENSIONS)}


def made(**over):
    built = build(PLUGIN.options, {"train": 500, "test": 300, **ALL, **over}, "builtin")
    return [PLUGIN.row(r, built) for r in PLUGIN.records(built, 7)]


def bad_of(one):
    return next(option for option in one.choices if option != one.right)


def every_case(shuffle: int = 0):
    for situation in SITUATIONS:
        for language in LANGUAGES:
            for which in (0, 1):
                yield situation, language, which, case(situation, language, (3, 8), 5, which, Random(shuffle))


def test_every_dimension_is_there_in_two_languages_with_situations_kept_for_tests():
    assert len(DIMENSIONS) == 5
    assert len(LANGUAGES) == 2
    assert all(len(NAMES[lang]) == len(NAMES["en"]) and len(PLACES[lang]) == len(PLACES["en"]) for lang in LANGUAGES)
    for dimension in DIMENSIONS:
        assert Counter(s.unseen for s in SITUATIONS if s.dimension == dimension) == {False: 2, True: 1}
    assert len({s.name for s in SITUATIONS}) == len(SITUATIONS)


@pytest.mark.parametrize("shuffle", [0, 1])
def test_the_rule_calls_every_good_completion_good_and_every_bad_one_bad(shuffle):
    for situation, language, which, one in every_case(shuffle):
        about = (situation.name, language, which)
        assert len(set(one.choices)) == 2, about
        assert grade(one, one.right, "value").verdict == "good", about
        assert grade(one, bad_of(one), "value").verdict == "bad", about
        assert grade(one, "hm", "value").verdict == "unparsable", about


def test_what_is_good_in_one_case_is_bad_in_its_twin():
    found = {(s.name, lang, which): one for s, lang, which, one in every_case()}
    for (name, language, which), one in found.items():
        twin = found[name, language, 1 - which]
        assert (one.right, bad_of(one)) == (bad_of(twin), twin.right)
        assert one.words != twin.words
        # But for what is the case, the two questions are one.
        assert one.words.replace(one.key_facts[0], "") == twin.words.replace(twin.key_facts[0], "") or (
            one.choices != twin.choices
        )


def test_neither_the_letter_nor_the_text_of_an_option_tells_which_is_good():
    rows = made(train=2000, test=0)
    letters = Counter(row.answer for row in rows)
    assert abs(letters["A"] - letters["B"]) < 4 * 2000**0.5
    good = Counter((row.task, row.choices["AB".index(row.answer)]) for row in rows)
    # Completions without a name, which come often enough: each is good about as often as bad.
    bad = Counter((row.task, row.choices["BA".index(row.answer)]) for row in rows)
    often = [key for key in good | bad if good[key] + bad[key] >= 60]
    assert len(often) >= 8
    assert all(0.25 < good[key] / (good[key] + bad[key]) < 0.75 for key in often)


def test_a_scene_is_on_one_side_in_every_language_and_case():
    for situation in SITUATIONS:
        same = {case(situation, lang, (1, 2), 3, which, Random(0)).scene_key for lang in LANGUAGES for which in (0, 1)}
        assert len(same) == 1


def test_unseen_situations_and_scenes_of_tests_are_in_no_training_row():
    rows = made()
    train, test = ([r for r in rows if r.split == split] for split in ("train", "test"))
    assert not {r.scene for r in train} & {r.scene for r in test}
    assert all(side(str(r.scene)) == r.split for r in rows)
    assert {r.family for r in train} == {None}
    assert {(r.family, *r.flags) for r in test} == {(None,), (UNSEEN, HELDOUT_FAMILY)}
    assert (
        {r.task for r in train} == {r.task for r in test} == {f"{d}_{lang}" for d in DIMENSIONS for lang in LANGUAGES}
    )
    assert {r.category for r in rows} == set(DIMENSIONS)
    assert all(r.reference_response is None for r in test)


def test_only_what_is_asked_for_is_drawn():
    rows = made(dimensions=["care"], languages=["zh"])
    assert {r.task for r in rows} == {"care_zh"}


def test_the_examples_pairs_are_one_good_and_one_bad_completion():
    rows = made(train=60, test=30, weights={"value": 1, "knowledge": 1}, test_weights={"value": 1, "knowledge": 1})
    firsts = Counter()
    for row in rows:
        pair = options(row)
        assert len(set(pair)) == 2
        if row.label == "value":
            assert pair == row.choices
            continue
        towns = [town for town in TOWNS if row.answer in vars_of(TOWNS[town])]
        others = {thing for town in TOWNS if town not in towns for thing in vars_of(TOWNS[town])}
        assert pair[0] == row.answer
        assert pair[1] in others
        firsts[pair[1]] += 1
        # Of the same topic, or nothing would have to be known.
        topic = next(t for t in TOPICS if getattr(TOWNS[towns[0]], t) == row.answer)
        assert pair[1] in {getattr(town, topic) for town in TOWNS.values()}
    assert len(firsts) > 8


def test_a_world_without_it_is_what_it_was():
    # Of the rows as they were before there was a value set.
    built = build(PLUGIN.options, {"train": 600, "test": 300}, "builtin")
    rows = [PLUGIN.row(r, built) for r in PLUGIN.records(built, 5)]
    said = [(r.id, r.reference_response, r.flags, r.family, r.choices) for r in rows]
    assert content_key(said) == "4152600728f08013"


@pytest.mark.parametrize(
    ("over", "told"),
    [({"dimensions": ["honor"]}, "'honor'"), ({"languages": ["fr"]}, "'fr'"), ({"languages": []}, "languages")],
)
def test_unknown_dimensions_and_languages_are_named(over, told):
    with pytest.raises(UsageError, match=told):
        made(**over)
