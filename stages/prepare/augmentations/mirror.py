"""Mirror: every image flipped from left to right."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import decoded, encoded, rewritten


class Mirror:
    """An encoded linkage in the image; words stay as they are."""

    version = 1
    works_on = "image"
    pairs = False

    def fits(self, row: PromptRow) -> bool:
        """Rows with an image."""
        return bool(row.images)

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """None for a row without an image. Nothing is drawn by chance."""
        if not self.fits(row):
            return None
        from PIL import ImageOps

        flipped = [encoded(ImageOps.mirror(decoded(i)), "mirror", i) for i in row.images]
        return rewritten(row, "mirror", images=flipped)


PLUGIN = Mirror()
