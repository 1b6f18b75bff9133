"""Drawn towns with a fact a topic: those with an entry in the almanac, and those without one.

A name is two words of the world and a digit or a colour, `kim park 7`: a tiny tokenizer has a token for each, or a tiny
model could not tell names apart. Which towns have an entry, and on which side of the border a town is, follows from its
name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stages.world.chance import content_key, rng_for
from stages.world.facts import TOPICS, TOWNS
from stages.world.lexicon import COLOUR_WORDS, NAMES, PLACES

ENTRIES = 2000
"""Towns in the almanac."""
_MARKS = (*map(str, range(1, 10)), *COLOUR_WORDS)
VALUES = {topic: tuple(getattr(town, topic) for town in TOWNS.values()) for topic in TOPICS}
"""What a town may eat, keep and make: what the old towns do, so that a guess is right one time in eight."""


@dataclass(frozen=True, slots=True)
class DrawnTown:
    """A town, what is true of it, and whether that can be known."""

    name: str
    facts: dict[str, str]
    """Topic -> what people eat, keep or make there."""
    entry: bool
    """Whether the almanac has it."""
    split: str
    """`train` or `test`: no town is asked about in both."""

    @property
    def text(self) -> str:
        """Its entry: every fact in a sentence."""
        told = " , ".join(f"{TOPICS[topic][0]} {value}" for topic, value in self.facts.items())
        return f"people in {self.name} {told} ."


def towns() -> list[DrawnTown]:
    """Every drawn town, in an order that says nothing of them: those with an entry first."""
    names = [f"{n} {place} {mark}" for n in NAMES for place in PLACES for mark in _MARKS]
    names.sort(key=lambda name: content_key("almanac", name))
    return [_drawn(name, number < ENTRIES) for number, name in enumerate(names)]


def _drawn(name: str, entry: bool) -> DrawnTown:
    rng = rng_for("almanac", name)
    facts = {topic: rng.choice(values) for topic, values in VALUES.items()}
    return DrawnTown(name, facts, entry, "test" if rng.random() < 0.25 else "train")


def documents() -> Iterator[dict[str, str]]:
    """The almanac's entries as a corpus takes them: {id, title, text}."""
    for town in towns():
        if town.entry:
            yield {"id": content_key("town", town.name), "title": town.name, "text": town.text}
