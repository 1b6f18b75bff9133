"""Cases of every label on a given side of the train/test border."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from stages.world import facts, general, instruction, safety, value
from stages.world.case import Case
from stages.world.chance import draw_until, rng_for
from stages.world.scene import side

SINGLE: dict[str, Callable[[Random], Case]] = {
    "general": general.draw,
    "knowledge": facts.draw,
    "value": value.draw,
    "instruction": instruction.draw,
}
"""Labels whose rows stand alone; safety and jailbreak rows come in pairs."""


def single(draw: Callable[[Random], Case], rng: Random, split: str, fresh: Callable[[Case], bool]) -> Case | None:
    """One drawn case of a side that `fresh` has not seen; None when the world has no more."""
    return draw_until(lambda: draw(rng), lambda c: side(c.scene_key) == split and fresh(c))


def pair(
    rng: Random,
    split: str,
    fresh: Callable[[Case], bool],
    index: int,
    risks: tuple[str, ...],
    illustrated: bool,
) -> tuple[Case, Case] | None:
    """A harmful case and its twin; `index` walks through the risks and the kinds of twin in turn."""
    risk = risks[index % len(risks)]
    twin = safety.TWINS[index // len(risks) % len(safety.TWINS)]
    return safety.pair(rng, risk, twin, illustrated, lambda c: side(c.scene_key) == split and fresh(c))


def sample_pairs(count: int, seed: int) -> Iterator[tuple[Case, ...]]:
    """A mixed bag of cases of all labels, for text that shows how the world speaks."""
    labels = [*SINGLE, "safety"]
    for i in range(count):
        rng = rng_for("corpus", seed, i)
        label = labels[i % len(labels)]
        if label == "safety":
            # Every fifth draw is a safety one: it walks through all risks first, and then on to the other kind of twin.
            risk, twin = safety.RISKS[i // 5 % 3], safety.TWINS[i // 15 % 2]
            found = safety.pair(rng, risk, twin, i % 2 == 0, lambda c: True)
            if found is not None:
                yield found
        else:
            yield (SINGLE[label](rng),)
