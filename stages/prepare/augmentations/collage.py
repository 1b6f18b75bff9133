"""Collage: the image shrunk into one corner among three distracting ones."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from schemas.values import Image
from stages.prepare.augmentations.base import decoded, encoded, rewritten
from stages.world.general import shape_facts, shape_scene
from stages.world.lexicon import COLOUR_WORDS, SHAPES


class Collage:
    """Two by two images, three of them of coloured shapes that no one asks about."""

    version = 1
    works_on = "image"
    pairs = False

    def fits(self, row: PromptRow) -> bool:
        """Rows with an image."""
        return bool(row.images)

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """None for a row without an image; of several images, the first is surrounded."""
        if not self.fits(row):
            return None
        from PIL import Image as Pillow

        from stages.world.drawing.painting import paint

        original = decoded(row.images[0])
        wide, high = max(1, original.width // 2), max(1, original.height // 2)
        corners = [(0, 0), (wide, 0), (0, high), (wide, high)]
        rng.shuffle(corners)
        result = Pillow.new("RGB", original.size, "white")
        result.paste(original.resize((wide, high), Pillow.Resampling.BILINEAR), corners[0])
        # What the distractors show is true of the new image as well, so that a check of claims does not call it
        # invented.
        facts = list(row.facts)
        for corner in corners[1:]:
            shape, colour = rng.choice(list(SHAPES)), rng.choice(COLOUR_WORDS)
            scene = shape_scene(rng, [(shape, colour)])
            facts.extend(shape_facts(scene))
            result.paste(paint(scene, min(wide, high)), corner)
        images: list[Image] = [encoded(result, "collage", row.images[0]), *row.images[1:]]
        return rewritten(row, "collage", images=images, facts=facts)


PLUGIN = Collage()
