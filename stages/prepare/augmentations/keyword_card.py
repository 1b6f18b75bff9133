"""Keyword card: the word that names the thing stands in an image, and the words only point at it."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from stages.prepare.augmentations._cards import CARD_SIZE, can_be_drawn, look
from stages.prepare.augmentations._words import key_word, without
from stages.prepare.augmentations.base import encoded, hints, rewritten, words
from stages.world.lexicon import CARD_THING


class KeywordCard:
    """One large word, as in MM-SafetyBench's typography images (arXiv:2311.17600)."""

    version = 1
    works_on = "words"
    pairs = False

    def fits(self, row: PromptRow) -> bool:
        """Rows of words alone that hold a word worth hiding, which can be drawn."""
        return not row.images and can_be_drawn(key_word(row))

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """None for a row that has an image, or whose words hold no word to hide."""
        if not self.fits(row):
            return None
        from stages.world.drawing.cards import keyword_card

        word = key_word(row)
        shown = look(row, word, rng, lambda r: {"row": r.randrange(3), "over": r.random() < 0.5})
        card = keyword_card(word, hints(row).image or CARD_SIZE, **shown)
        return rewritten(
            row,
            "keyword_card",
            text=without(words(row), word, CARD_THING),
            images=[encoded(card, "keyword_card")],
            facts=[f"a card that says {word}", *row.key_facts],
        )


PLUGIN = KeywordCard()
