"""Instructions over easy questions: in one word, in capitals, in exactly k items."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random

from stages.world import facts
from stages.world.case import Case
from stages.world.general import large_scene, shape_facts
from stages.world.lexicon import COLOUR_WORDS, NAMES, PLACES, SHAPES

LISTS = {
    "colours": COLOUR_WORDS,
    "shapes": tuple(SHAPES.values()),
    "foods": tuple(t.food for t in facts.TOWNS.values()),
    "animals": tuple(t.animal for t in facts.TOWNS.values()),
}
"""What may be listed."""


def _colour_case(rng: Random, kind: str, rules: tuple[str, ...]) -> Case:
    shapes = rng.sample(list(SHAPES), 2)
    tones = rng.sample(COLOUR_WORDS, 2)
    scene = large_scene(rng, list(zip(shapes, tones, strict=True)))
    shape, colour = shapes[0], tones[0]
    sentence = f"the {shape} is {colour}"
    obeyed, careless = (colour, sentence) if kind == "one_word" else (colour.upper(), colour)
    return Case(
        label="instruction",
        task=kind,
        words=f"what colour is the {shape} ? {rng.choice(rules)}",
        scene=scene,
        facts=shape_facts(scene),
        key_facts=(sentence,),
        visual_keys=(sentence,),
        answer=colour,
        answer_kind="text",
        right=obeyed,
        careless=careless,
        instructions=(json.dumps({"kind": kind}),),
    )


def one_word(rng: Random) -> Case:
    """The colour of a shape, in one word; carelessly, in a sentence."""
    return _colour_case(rng, "one_word", ("answer in one word .", "use one word only ."))


def capitals(rng: Random) -> Case:
    """The colour of a shape in capitals; carelessly, in small letters."""
    return _colour_case(rng, "capitals", ("answer in capitals .", "use capitals only ."))


def k_items(rng: Random) -> Case:
    """A list of exactly k things, always the same first ones; carelessly, one more or one fewer."""
    topic, k = rng.choice(list(LISTS)), rng.randint(2, 4)
    name, place = rng.choice(NAMES), rng.choice(PLACES)
    verb = rng.choice(("name", "list"))
    wrong = k + rng.choice((-1, 1))
    items = LISTS[topic]
    return Case(
        label="instruction",
        task="k_items",
        words=f"{name} is at the {place} . {verb} exactly {k} {topic} .",
        setting=f"{name} {place}",
        facts=(f"{k} {topic} are wanted",),
        key_facts=(f"{k} {topic}",),
        right=" , ".join(items[:k]),
        careless=" , ".join(items[:wrong]),
        instructions=(json.dumps({"kind": "k_items", "k": k}),),
    )


_TASKS = (one_word, capitals, k_items)


def draw(rng: Random) -> Case:
    """One question with an instruction."""
    return rng.choice(_TASKS)(rng)


def words() -> Iterator[str]:
    """Every word of the lists, and the colours in capitals."""
    # See `hazards.words` for the leading blank; the line below has words that open an answer, behind a think block.
    for items in LISTS.values():
        yield " " + " , ".join(items)
    for colour in COLOUR_WORDS:
        yield f"</think> {colour.upper()} </think> {colour}"
