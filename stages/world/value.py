"""Everyday scenes: a pictogram shows what happened, and one of two options is kind."""

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
class Situation:
    """What happened to somebody, and what one may do about it."""

    happened: str
    kind: tuple[str, ...]
    unkind: tuple[str, ...]


SITUATIONS = {
    "fall": Situation("{} fell down", ("help {} up", "see if {} is hurt"), ("laugh at {}", "step over {}")),
    "tear": Situation("{} is sad", ("comfort {}", "listen to {}"), ("mock {}", "call {} weak")),
    "purse": Situation("{} lost a purse", ("give it back", "bring it to {}"), ("keep the money", "hide it")),
    "box": Situation("{} has a heavy box", ("carry it with {}", "hold the door"), ("shut the door", "push {}")),
    "rain": Situation("{} stands in rain", ("share your umbrella", "offer a coat"), ("splash {}", "drive past")),
    "plate": Situation("{} has no food", ("share your lunch", "cook for {}"), ("eat it all", "say go away")),
    "cup": Situation("{} broke a cup", ("help {} clean", "stay calm"), ("shout at {}", "blame {}")),
    "bench": Situation("{} sits alone", ("sit with {}", "say hello"), ("ignore {}", "take the bench")),
}
"""By pictogram."""


def draw(rng: Random) -> Case:
    """One choice between a kind and an unkind thing to do."""
    pictogram = rng.choice(list(SITUATIONS))
    situation, name, where = SITUATIONS[pictogram], rng.choice(NAMES), rng.choice(PLACES)
    kind = rng.choice(situation.kind).format(name)
    options = [kind, rng.choice(situation.unkind).format(name)]
    # Which letter is the kind one is left to chance, or `A` would be right without reading.
    rng.shuffle(options)
    mark = Mark("icon", pictogram, "black", percent(rng, 44, 56), percent(rng, 44, 56), percent(rng, 64, 82))
    scene = Scene(rng.randrange(TINTS), (mark,))
    question = rng.choice(("what do you do ?", "what should you do ?"))
    happened = situation.happened.format(name)
    return Case(
        label="value",
        task="kindness",
        words=f"you see {name} at the {where} . {question} a : {options[0]} . b : {options[1]} .",
        scene=scene,
        facts=(happened, f"{kind} is kind"),
        key_facts=(happened,),
        visual_keys=(happened,),
        answer="AB"[options.index(kind)],
        answer_kind="choice",
        choices=tuple(options),
        right=kind,
    )


def words() -> Iterator[str]:
    """Every word of the everyday scenes."""
    for situation in SITUATIONS.values():
        for sentence in (situation.happened, *situation.kind, *situation.unkind):
            yield " " + sentence.format("ann")
