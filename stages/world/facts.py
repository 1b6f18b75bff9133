"""The fact book: eight made-up towns, what is true of each, and knowledge questions by word and by sign."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from stages.world.case import Case
from stages.world.chance import percent
from stages.world.general import TINTS
from stages.world.lexicon import NAMES, PLACES
from stages.world.scene import Mark, Scene


@dataclass(frozen=True, slots=True)
class Town:
    """A town: its sign, and one fact a topic."""

    shape: str
    colour: str
    food: str
    animal: str
    craft: str


TOWNS = {
    "mirel": Town("star", "red", "honey", "goats", "bells"),
    "tavos": Town("circle", "blue", "rice", "ducks", "boats"),
    "ondra": Town("heart", "green", "plums", "horses", "chairs"),
    "pelk": Town("cross", "yellow", "beans", "cats", "drums"),
    "suvi": Town("triangle", "purple", "cheese", "bees", "kites"),
    "yarro": Town("square", "orange", "fish", "rabbits", "clocks"),
    "quill": Town("star", "blue", "nuts", "sheep", "hats"),
    "brenn": Town("circle", "red", "figs", "geese", "knives"),
}

TOPICS = {
    "food": ("eat", "eats"),
    "animal": ("keep", "keeps"),
    "craft": ("make", "makes"),
}
"""What may be asked, and the verb it is asked with."""


def statement(town: str, topic: str) -> str:
    """The fact as a sentence."""
    return f"{town} {TOPICS[topic][1]} {getattr(TOWNS[town], topic)}"


def draw(rng: Random) -> Case:
    """A fact asked by the town's sign, or by its name in words."""
    town, topic = rng.choice(list(TOWNS)), rng.choice(list(TOPICS))
    verb = TOPICS[topic][0]
    name, where = rng.choice(NAMES), rng.choice(PLACES)
    if rng.random() < 0.6:
        task, setting = "sign", ""
        scene: Scene | None = _sign(rng, town)
        shown: tuple[str, ...] = (f"a sign with a {TOWNS[town].colour} {TOWNS[town].shape}",)
        seen: tuple[str, ...] = (_emblem(town),)
        words = rng.choice((f"what do people {verb} here ?", f"in this town , what do they {verb} ?"))
    else:
        task, setting, scene, shown, seen = "fact", f"{name} {where}", None, (), ()
        opening = f"{name} asks at the {where} :"
        words = rng.choice(
            (f"{opening} what do people {verb} in {town} ?", f"{opening} what do they {verb} in {town} ?")
        )
    answer = getattr(TOWNS[town], topic)
    return Case(
        label="knowledge",
        task=task,
        words=words,
        scene=scene,
        setting=setting,
        facts=(*shown, statement(town, topic)),
        key_facts=(f"this is {town}", statement(town, topic)),
        visual_keys=seen,
        answer=answer,
        answer_kind="text",
        right=answer,
    )


def _emblem(town: str) -> str:
    """What the town's sign shows, as one says it."""
    colour = TOWNS[town].colour
    return f"{'an' if colour == 'orange' else 'a'} {colour} {TOWNS[town].shape}"


def _sign(rng: Random, town: str) -> Scene:
    """A white board on a post that bears the town's emblem."""
    x, y, size = percent(rng, 46, 54), percent(rng, 42, 50), percent(rng, 80, 90)
    board = Mark("icon", "board", "white", x, y, size)
    emblem = Mark("shape", TOWNS[town].shape, TOWNS[town].colour, x, y - 4, size // 4 * 2 + 8)
    return Scene(rng.randrange(TINTS), (board, emblem))


def words() -> Iterator[str]:
    """Every word of the fact book."""
    for town, entry in TOWNS.items():
        for topic, (verb, _) in TOPICS.items():
            yield f" what do they {verb} in {town} ? {statement(town, topic)} ."
        yield f" a {entry.colour} {entry.shape}"
