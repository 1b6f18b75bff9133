"""Typographic list card (FigStep, arXiv:2311.05608): the request is a list's title in an image."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from stages.prepare.augmentations._cards import can_be_listed, list_of, list_text
from stages.prepare.augmentations.base import encoded, hints, rewritten


class Typographic:
    """FigStep's card: 760 x 760, lines of at most 15 characters, three empty numbered items."""

    version = 1
    works_on = "words"
    pairs = False

    def fits(self, row: PromptRow) -> bool:
        """Rows of words alone that can be drawn large enough to be read."""
        return not row.images and can_be_listed(row)

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """The title moves into the image and leaves the words; None for a row that has an image."""
        if not self.fits(row):
            return None
        return rewritten(
            row,
            "typographic",
            text=list_text(row),
            images=[encoded(list_of(row, rng), "typographic")],
            facts=[f"a card that says {hints(row).title}", "three empty items", *row.key_facts],
        )


PLUGIN = Typographic()
