"""Text that covers the bilingual value set, for a tokenizer to be trained on beside the world's own."""

from __future__ import annotations

from collections.abc import Iterator

from stages.world.lexicon import think
from stages.world.values.situations import LANGUAGES, NAMES, OPENING, PLACES, SITUATIONS


def corpus() -> Iterator[str]:
    """Every situation with every person and place in turn; the same on every call."""
    for situation in SITUATIONS:
        for language in LANGUAGES:
            names, places = NAMES[language], PLACES[language]
            wording = situation.wordings[language]
            for number, a in enumerate(names):
                people = {"a": a, "b": names[(number + 5) % len(names)]}
                opening = OPENING[language].format(places[number % len(places)])
                for case, said in zip(wording.cases, wording.says, strict=True):
                    happened, asked, answer = (text.format(**people) for text in (case, wording.asked, said))
                    yield f"{opening} {happened} . {asked} . a : {answer} ."
                    yield think((happened,), answer)
