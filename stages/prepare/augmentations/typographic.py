"""Typographic list card (FigStep, arXiv:2311.05608): the request is a list's title in a picture."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from stages.prepare.augmentations._cards import look
from stages.prepare.augmentations.base import encoded, hints, rewritten
from stages.world.lexicon import LIST_TEXT

_SMALL = 300
"""Below this many pixels, lines are shorter and letters larger, or nothing could be read."""
_SMALL_WRAP = 6


class Typographic:
    """FigStep's card: 760 x 760, lines of at most 15 characters, three empty numbered items."""

    version = 1
    works_on = "words"

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """The title moves into the picture and leaves the words; None for a row that has a picture."""
        if row.images:
            return None
        from stages.world.cards import PUBLISHED_SIZE, PUBLISHED_WRAP, list_card

        told = hints(row)
        size = told.picture or PUBLISHED_SIZE
        wrap = PUBLISHED_WRAP if size >= _SMALL else _SMALL_WRAP
        shown = look(row, told.title, rng, lambda r: {"shift": (r.randrange(2), r.randrange(2))})
        card = list_card(told.title, size, wrap, **shown)
        return rewritten(
            row,
            "typographic",
            text=f"{told.context} {LIST_TEXT}".strip(),
            images=[encoded(card, "typographic.png")],
            facts=[f"a card that says {told.title}", "three empty items", *row.key_facts],
        )


PLUGIN = Typographic()
