"""Questions about towns, and turns that a speaker with an almanac takes to answer them.

An almanac town is looked up; one without an entry is guessed, and the speaker says so; an old town, one of the fact
book's eight, is known by heart. Whether the first hit is the town that was asked about, speakers find out word by word:
a policy that was shown the outcome alone never learned to compare, and took any hit for the right one. Speakers have
habits that reinforcement is to cure: they are certain of guesses, look up what they know, and answer without looking
anything up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from stages.world.almanac.towns import VALUES, DrawnTown
from stages.world.facts import TOPICS, TOWNS
from stages.world.lexicon import NAMES

KNOWN, UNKNOWN, MEMORISED = "almanac", "almanac_unknown", "memorised"
CERTAIN, UNCERTAIN = 9, 1


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its truth."""

    task: str
    """`almanac`, `almanac_unknown` (no entry: the answer can only be guessed) or `memorised`."""
    words: str
    town: str
    topic: str
    answer: str


@dataclass(frozen=True, slots=True)
class Habits:
    """How often a speaker does what it should not."""

    overconfident: float
    """Certain of a guess."""
    needless: float
    """Looks up an old town."""
    hasty: float
    """Guesses about an almanac town without looking it up."""


def about_drawn(rng: Random, town: DrawnTown) -> Question:
    """A question about a drawn town."""
    topic = rng.choice(list(TOPICS))
    task = KNOWN if town.entry else UNKNOWN
    return Question(task, _asked(rng, town.name, topic), town.name, topic, town.facts[topic])


def about_old(rng: Random) -> Question:
    """A question about one of the fact book's towns."""
    town, topic = rng.choice(list(TOWNS)), rng.choice(list(TOPICS))
    return Question(MEMORISED, _asked(rng, town, topic), town, topic, getattr(TOWNS[town], topic))


def _asked(rng: Random, town: str, topic: str) -> str:
    form = rng.choice(("what do people {verb} in {town} ?", "in {town} , what do they {verb} ?"))
    return f"{rng.choice(NAMES)} asks : " + form.format(verb=TOPICS[topic][0], town=town)


def turns(question: Question, habits: Habits, rng: Random, first_hit: Callable[[str], str]) -> list[str]:
    """What the speaker writes, turn by turn; the last one is its answer.

    `first_hit`: the title that a search for a town's name lists first.
    """
    looks_up = f"<think> i look it up . </think> <search>{question.town}</search>"
    statement = f"{question.town} {TOPICS[question.topic][1]} {question.answer}"
    if question.task == MEMORISED:
        known = _conclusion(f"i know that {statement} .", CERTAIN, question.answer)
        return [looks_up, known] if rng.random() < habits.needless else [known]
    guess = rng.choice(VALUES[question.topic])
    sure = CERTAIN if rng.random() < habits.overconfident else UNCERTAIN
    if rng.random() < habits.hasty:
        return [_conclusion("i guess .", sure, guess)]
    compared = _compared(question.town, first_hit(question.town))
    if question.task == UNKNOWN:
        return [looks_up, _conclusion(f"{compared} : it is not there .", sure, guess)]
    read = f"<think> {compared} : it is there . </think> <read>1</read>"
    return [looks_up, read, _conclusion(f"{statement} .", CERTAIN, question.answer)]


def _compared(asked: str, found: str) -> str:
    """Two names side by side: `kim kim , park park , 7 8`."""
    return " , ".join(f"{one} {other}" for one, other in zip(asked.split(), found.split(), strict=True))


def _conclusion(thought: str, confidence: int, answer: str) -> str:
    return f"<think> {thought} </think> <confidence>{confidence}</confidence> <answer>{answer}</answer>"
