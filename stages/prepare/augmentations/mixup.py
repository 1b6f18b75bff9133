"""Image mix-up (mixup, arXiv:1710.09412, on images alone): every image blended with another, which stays faint."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import decoded, encoded, rewritten
from stages.world.general import shape_facts, shape_scene
from stages.world.lexicon import COLOUR_WORDS, SHAPES

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_OWN = (0.6, 0.75)
"""Range of the weight of the row's own image: it stays the stronger one, so that the row's truth stays true."""
_FEWEST, _MOST = 4, 7
"""Shapes in a drawn partner."""


class Mixup:
    """The other image is a harmless row's, or else one of coloured shapes; words stay as they are."""

    version = 1
    works_on = "image"
    pairs = True

    def fits(self, row: PromptRow) -> bool:
        """Rows with an image."""
        return bool(row.images)

    def apply(self, row: PromptRow, rng: Random, partner: PromptRow | None = None) -> PromptRow | None:
        """None for a row without an image."""
        if not self.fits(row):
            return None
        from PIL import Image as Pillow
        from PIL import ImageOps

        other, facts = _other(rng, partner)
        own = rng.uniform(*_OWN)
        blended = []
        for image in row.images:
            pixels = decoded(image)
            fitted = ImageOps.fit(other, pixels.size, Pillow.Resampling.BILINEAR)
            # `blend(a, b, alpha)` weighs its second image with alpha.
            blended.append(encoded(Pillow.blend(fitted, pixels, own), "mixup", image))
        return rewritten(row, "mixup", images=blended, facts=[*row.facts, *facts])


def _other(rng: Random, partner: PromptRow | None) -> tuple[PillowImage, tuple[str, ...]]:
    """The image to mix in, and what it shows."""
    if partner is not None and partner.images:
        return decoded(partner.images[0]), tuple(partner.facts)
    from stages.world.drawing.painting import paint

    shapes = [(rng.choice(list(SHAPES)), rng.choice(COLOUR_WORDS)) for _ in range(rng.randint(_FEWEST, _MOST))]
    scene = shape_scene(rng, shapes)
    return paint(scene, 448), shape_facts(scene)


PLUGIN = Mixup()
