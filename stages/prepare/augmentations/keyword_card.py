"""Keyword card: the word that names the thing stands in a picture, and the words only point at it."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from stages.prepare.augmentations._cards import look
from stages.prepare.augmentations.base import encoded, hints, rewritten, words
from stages.world.lexicon import CARD_THING

_SIZE = 448
"""Side of a card where the row asks for none, in pixels."""


class KeywordCard:
    """One large word, as in MM-SafetyBench's typography pictures (arXiv:2311.17600)."""

    version = 1
    works_on = "words"

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """None for a row that has a picture, or whose words do not hold its keyword."""
        told = hints(row)
        if row.images or not told.keyword or told.keyword not in words(row):
            return None
        from stages.world.cards import keyword_card

        shown = look(row, told.keyword, rng, lambda r: {"row": r.randrange(3), "over": r.random() < 0.5})
        card = keyword_card(told.keyword, told.picture or _SIZE, **shown)
        return rewritten(
            row,
            "keyword_card",
            text=words(row).replace(told.keyword, CARD_THING),
            images=[encoded(card, "keyword_card.png")],
            facts=[f"a card that says {told.keyword}", *row.key_facts],
        )


PLUGIN = KeywordCard()
