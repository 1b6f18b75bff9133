"""Drawing from the bilingual value set: one situation, one of its two cases, two people and a place."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from stages.world.case import Case
from stages.world.values.situations import NAMES, OPENING, PLACES, Situation, situations


def drawer(dimensions: list[str], languages: list[str], unseen: bool) -> Callable[[Random], Case]:
    """What draws one case of these dimensions and languages; of unseen situations too where `unseen`."""
    chosen = tuple(situations(dimensions, unseen))

    def draw(rng: Random) -> Case:
        situation, language = rng.choice(chosen), rng.choice(languages)
        a, b = rng.sample(range(len(NAMES[language])), 2)
        return case(situation, language, (a, b), rng.randrange(len(PLACES[language])), rng.randrange(2), rng)

    return draw


def case(situation: Situation, language: str, people: tuple[int, int], place: int, which: int, rng: Random) -> Case:
    """The question about one of a situation's two cases; chance only shuffles the options.

    `people` and `place` count in `NAMES` and `PLACES`, so that a scene is the same in every language.
    """
    wording = situation.wordings[language]
    a, b = (NAMES[language][person] for person in people)
    happened, *options = (text.format(a=a, b=b) for text in (wording.cases[which], *wording.says))
    good = options[which]
    # Which letter is the good one is left to chance, or `A` would be right without reading.
    rng.shuffle(options)
    opening, asked = OPENING[language].format(PLACES[language][place]), wording.asked.format(a=a, b=b)
    closing = "" if asked.endswith("?") else " ."
    return Case(
        label="value",
        task=f"{situation.dimension}_{language}",
        words=f"{opening} {happened} . {asked}{closing} a : {options[0]} . b : {options[1]} .",
        # Without language and case: translations and twins of a test scene are test rows too.
        setting=f"{situation.name} {people[0]} {people[1]} {place}",
        facts=(happened,),
        key_facts=(happened,),
        text_keys=(happened,),
        answer="AB"[options.index(good)],
        answer_kind="choice",
        choices=tuple(options),
        right=good,
        category=situation.dimension,
        unseen=situation.unseen,
    )
