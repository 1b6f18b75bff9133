"""Mirror: every picture flipped from left to right."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import decoded, encoded, rewritten


class Mirror:
    """An encoded linkage in the picture; words stay as they are."""

    version = 1
    works_on = "picture"

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """None for a row without a picture. Nothing is drawn by chance."""
        if not row.images:
            return None
        from PIL import ImageOps

        flipped = [ImageOps.mirror(decoded(i)) for i in row.images]
        return rewritten(row, "mirror", images=[encoded(p, "mirror.png") for p in flipped])


PLUGIN = Mirror()
