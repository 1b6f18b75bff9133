"""Look at both: the question is followed by the request to look and to read carefully, and by no fact."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import followed, is_seen_question
from stages.world.lexicon import LOOK_AND_READ


class LookBoth:
    """The implicit setting of VTPerception-R1's study (arXiv:2509.24776), for image and words."""

    version = 1
    works_on = "image"
    pairs = False

    def fits(self, row: PromptRow) -> bool:
        """Questions about an image that nobody's harm hangs on."""
        return is_seen_question(row)

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """The image and the question stay; None for a row that is none."""
        return followed(row, "look_both", LOOK_AND_READ) if self.fits(row) else None


PLUGIN = LookBoth()
