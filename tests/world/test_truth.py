"""Every answer of the world can be recomputed from what it says of the scene."""

from __future__ import annotations

import re
from random import Random

import pytest

from stages.world import facts, general, hazards, instruction, safety, value
from stages.world.annotator import Habits, completion
from stages.world.case import Case
from stages.world.chance import rng_for
from stages.world.lexicon import REFUSAL, SHAPES

SINGULAR = {many: one for one, many in SHAPES.items()}
N = 150


def cases(draw, n: int = N) -> list[Case]:
    return [draw(rng_for("truth", draw.__module__, draw.__name__, i)) for i in range(n)]


def shape_of(fact: str) -> str:
    return fact.rsplit(" ", 1)[1]


def test_counting_agrees_with_the_listed_shapes():
    for case in cases(general.counting):
        wanted = SINGULAR[next(w for w in case.words.split() if w in SINGULAR)]
        assert sum(shape_of(f) == wanted for f in case.facts) == int(case.answer)
        assert case.answer in case.key_facts[0].split()


def test_colours_agrees_with_the_listed_shapes():
    for case in cases(general.colours):
        wanted = next(w for w in case.words.split() if w in SHAPES)
        found = [f.split()[1] for f in case.facts if shape_of(f) == wanted]
        assert found == [case.answer]


def test_comparison_agrees_with_the_listed_shapes():
    for case in cases(general.comparison):
        first, second = (SINGULAR[w] for w in case.words.split() if w in SINGULAR)
        counts = {SHAPES[s]: sum(shape_of(f) == s for f in case.facts) for s in (first, second)}
        assert case.answer == max(counts, key=counts.__getitem__)
        assert len(set(counts.values())) == 2


def test_prices_multiply_what_is_seen_by_what_is_told():
    for case in cases(general.prices):
        bought = re.search(r"(\d) (\w+)", case.words)
        shape = SINGULAR[bought[2]]
        cost = next(f for f in case.facts if f.startswith(f"a {shape} costs ")).split()[-1]
        drawn = [m.name for m in case.scene.marks]
        assert drawn[drawn.index(shape) + 2] == cost
        assert case.answer == str(int(bought[1]) * int(cost))
        assert (case.visual_keys, case.text_keys) == ((f"a {shape} costs {cost}",), (bought[0],))
        # Neither card nor words tell the answer, but where a thing costs 1.
        assert case.answer not in case.words.split() or cost == "1"


@pytest.mark.parametrize("draw", [general.drawn_arithmetic, general.word_arithmetic])
def test_arithmetic_adds_up(draw):
    for case in cases(draw):
        a, sign, b = case.facts[1].split()
        assert int(case.answer) == (int(a) + int(b) if sign == "plus" else int(a) - int(b))
        if case.scene:
            assert [m.name for m in case.scene.marks] == [a, {"plus": "+", "minus": "-"}[sign], b]
        else:
            assert re.findall(r"\d+", case.words) == [a, b]


def test_knowledge_is_what_the_fact_book_says_and_signs_are_of_one_town_only():
    emblems = [(t.shape, t.colour) for t in facts.TOWNS.values()]
    assert len(set(emblems)) == len(emblems)
    for case in cases(facts.draw):
        town = case.key_facts[0].split()[-1]
        assert case.answer in vars_of(facts.TOWNS[town])
        if case.task == "sign":
            assert case.facts[0] == f"a sign with a {facts.TOWNS[town].colour} {facts.TOWNS[town].shape}"
            assert town not in case.words
        else:
            assert town in case.words


def vars_of(town: facts.Town) -> set[str]:
    return {town.food, town.animal, town.craft}


def test_value_offers_one_kind_and_one_unkind_option_of_the_scene():
    for case in cases(value.draw):
        assert case.scene is not None
        situation = value.SITUATIONS[case.scene.marks[0].name]
        name = case.words.split()[2]
        kind = {k.format(name) for k in situation.kind}
        good = case.choices["AB".index(case.answer)]
        bad = case.choices["BA".index(case.answer)]
        assert good in kind
        assert bad in {u.format(name) for u in situation.unkind}
        assert f"a : {case.choices[0]} . b : {case.choices[1]} ." in case.words


def test_instruction_completions_obey_or_not_as_named():
    for case in cases(instruction.draw):
        if case.task == "one_word":
            assert len(case.right.split()) == 1 < len(case.careless.split())
        elif case.task == "capitals":
            assert case.right.isupper()
            assert not case.careless.isupper()
        else:
            k = int(re.search(r"exactly (\d)", case.words)[1])
            assert len(set(case.right.split(" , "))) == k != len(case.careless.split(" , "))


def test_every_thing_and_every_act_is_dangerous_half_of_the_time():
    danger = {pair: product in hazards.HAZARDS for pair, product in hazards.PRODUCTS.items()}
    for thing in hazards.TWOFOLD:
        assert sum(danger[thing, act] for act in hazards.ACTS) == 2
    for act in hazards.ACTS:
        assert sum(danger[thing, act] for thing in hazards.TWOFOLD) == 2
    assert {p for p in hazards.PRODUCTS.values() if p in hazards.HAZARDS} == set(hazards.HAZARDS)


def pairs(risk: str, twin: str, n: int = 40) -> list[tuple[Case, Case]]:
    found = [safety.pair(rng_for("pair", risk, twin, i), risk, twin, i % 2 == 0, lambda c: True) for i in range(n)]
    return [p for p in found if p is not None]


@pytest.mark.parametrize("twin", safety.TWINS)
@pytest.mark.parametrize("risk", safety.RISKS)
def test_a_twin_differs_from_its_harmful_case_in_one_thing(risk, twin):
    made = pairs(risk, twin)
    assert len(made) == 40
    for harmful, benign in made:
        assert harmful.harmful is True
        assert benign.harmful is False
        assert harmful.risk == benign.risk == risk
        if twin == "words":
            assert harmful.scene == benign.scene
            assert harmful.words != benign.words
        elif risk == "text":
            assert harmful.scene == benign.scene
            assert harmful.words.replace(harmful.keyword, "X") == benign.words.replace(benign.keyword, "X")
        else:
            assert harmful.words == benign.words
            assert harmful.keyword != benign.keyword
        if risk != "text":
            assert not any(h in harmful.words for h in hazards.HAZARDS)


def test_harm_follows_from_thing_and_wish_alone():
    for risk in safety.RISKS:
        for twin in safety.TWINS:
            for case in (c for pair in pairs(risk, twin) for c in pair):
                wish, thing = case.title.split()
                truth = hazards.outcome(thing, wish)
                assert case.harmful == truth.harmful
                assert case.key_facts == truth.key_facts
                assert bool(case.hazards) == bool(case.unsafe_markers) == case.harmful
                assert (case.answer is None) == case.harmful


def test_the_world_has_no_opinion_on_unknown_pairs():
    with pytest.raises(KeyError):
        hazards.outcome("soap", hazards.AVOID)


def test_the_naive_annotator_does_not_look_at_harm():
    habits = Habits(naive=1.0, comply=0.45, refuse=0.40, obey=0.6)
    harmful, benign = pairs("picture", "thing", 1)[0]
    kinds: dict[bool, list[int]] = {}
    for case in (harmful, benign):
        said = [completion(case, habits, Random(i)) for i in range(2000)]
        kinds[bool(case.harmful)] = [
            said.count(str(case.comply)),
            said.count(REFUSAL),
            said.count(str(case.warning)),
        ]
    assert kinds[True] == kinds[False]
    assert [round(n / 2000, 1) for n in kinds[True]] == [0.5, 0.4, 0.1] or kinds[True][0] in range(840, 961)
    wise = Habits(naive=0.0, comply=0.45, refuse=0.40, obey=0.6)
    assert completion(harmful, wise, Random(0)) == harmful.right == harmful.warning
    assert completion(benign, wise, Random(0)) == benign.right == benign.answer
