"""Look: the question is followed by the request to look carefully, and by no fact."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import followed, is_seen_question
from stages.world.lexicon import LOOK


class Look:
    """The implicit setting of VTPerception-R1's study (arXiv:2509.24776)."""

    version = 1
    works_on = "image"
    pairs = False

    def fits(self, row: PromptRow) -> bool:
        """Questions about an image that nobody's harm hangs on."""
        return is_seen_question(row)

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """The image and the question stay; None for a row that is none."""
        return followed(row, "look", LOOK) if self.fits(row) else None


PLUGIN = Look()
