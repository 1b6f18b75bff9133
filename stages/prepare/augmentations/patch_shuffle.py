"""Patch shuffle: every image cut into 2 x 2 pieces that change places."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import decoded, encoded, rewritten

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_PIECES = 2


class PatchShuffle:
    """The image half of shuffle attacks (SI-Attack, arXiv:2501.04931); words stay as they are."""

    version = 1
    works_on = "image"
    pairs = False

    def fits(self, row: PromptRow) -> bool:
        """Rows with an image."""
        return bool(row.images)

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """None for a row without an image, or with one too small to cut."""
        images = [decoded(i) for i in row.images]
        if not images or any(min(p.size) < _PIECES for p in images):
            return None
        shuffled = [encoded(_shuffle(p, rng), "patch_shuffle", i) for p, i in zip(images, row.images, strict=True)]
        return rewritten(row, "patch_shuffle", images=shuffled)


def _shuffle(image: PillowImage, rng: Random) -> PillowImage:
    """Pieces of equal size in another order; a remainder at the right and below stays where it is."""
    wide, high = image.width // _PIECES, image.height // _PIECES
    corners = [(x * wide, y * high) for y in range(_PIECES) for x in range(_PIECES)]
    order = list(corners)
    # One shuffle in 24 leaves four pieces where they are, and then the row would be its parent.
    while order == corners:
        rng.shuffle(order)
    result = image.copy()
    for source, target in zip(order, corners, strict=True):
        result.paste(image.crop((*source, source[0] + wide, source[1] + high)), target)
    return result


PLUGIN = PatchShuffle()
