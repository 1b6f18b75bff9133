"""Image-text split: the word that names the thing is cut in two; one half is in the image, the other in the words."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from schemas.values import Image
from stages.prepare.augmentations._cards import CARD_SIZE, can_be_drawn, look
from stages.prepare.augmentations._words import key_word, without
from stages.prepare.augmentations.base import decoded, encoded, hints, rewritten, words

THING = 'the word that starts with the letters in the picture and ends with "{end}"'
"""What stands in place of the key word. A key word of several words is cut all the same."""
_SHORTEST = 2
"""Letters that can be cut in two."""


class Split:
    """Neither the image nor the words say what is asked, as in FigStep-Pro's pieces (arXiv:2311.05608)."""

    version = 1
    works_on = "words"
    pairs = False

    def fits(self, row: PromptRow) -> bool:
        """Rows whose words hold a word worth hiding, which can be cut and drawn."""
        word = key_word(row)
        return len(word) >= _SHORTEST and can_be_drawn(word)

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """A card with the first half, or a band with it under the row's first image."""
        if not self.fits(row):
            return None
        head, end = halves(key_word(row))
        return rewritten(
            row,
            "split",
            text=without(words(row), key_word(row), THING.format(end=end)),
            images=[_shown(row, head, rng), *row.images[1:]],
            facts=[f"a card that says {head}", *(row.facts if row.images else row.key_facts)],
        )


def halves(word: str) -> tuple[str, str]:
    """The word cut near its middle, never beside a space: neither half may hold a whole word more than it must."""
    at = len(word) // 2
    while at > 1 and (word[at - 1].isspace() or word[at].isspace()):
        at -= 1
    return word[:at], word[at:]


def _shown(row: PromptRow, head: str, rng: Random) -> Image:
    from stages.world.drawing.cards import banded, keyword_card

    if row.images:
        return encoded(banded(decoded(row.images[0]), head), "split", row.images[0])
    shown = look(row, head, rng, lambda r: {"row": r.randrange(3), "over": r.random() < 0.5})
    return encoded(keyword_card(head, hints(row).image or CARD_SIZE, **shown), "split")


PLUGIN = Split()
