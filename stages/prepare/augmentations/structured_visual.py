"""Structured visual grounding: the question asks that what is seen be written down before it is answered."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import followed, is_seen_question
from stages.world.lexicon import WRITE_SEEN


class StructuredVisual:
    """The self-written structure of VTPerception-R1's study (arXiv:2509.24776), of what is seen alone."""

    version = 1
    works_on = "image"
    pairs = False

    def fits(self, row: PromptRow) -> bool:
        """Questions about an image that nobody's harm hangs on."""
        return is_seen_question(row)

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """The image and the question stay; None for a row that is none."""
        return followed(row, "structured_visual", WRITE_SEEN) if self.fits(row) else None


PLUGIN = StructuredVisual()
