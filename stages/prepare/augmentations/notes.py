"""Explicit visual notes: the question is followed by the facts that have to be seen, told in words."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import followed, is_seen_question
from stages.world.lexicon import NOTES


class Notes:
    """The explicit setting of VTPerception-R1's study (arXiv:2509.24776): what perfect perception would be worth.

    The notes are the row's `visual_keys` and nothing else: no result and no knowledge, so that they give an answer
    away only where seeing is all that it takes.
    """

    version = 1
    works_on = "image"
    pairs = False

    def fits(self, row: PromptRow) -> bool:
        """Questions about an image whose facts to be seen are known."""
        return is_seen_question(row) and bool(row.visual_keys)

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """The image and the question stay; None for a row that names no such facts."""
        return followed(row, "notes", f"{NOTES} {' . '.join(row.visual_keys)} .") if self.fits(row) else None


PLUGIN = Notes()
