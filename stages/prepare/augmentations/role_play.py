"""Role play: an opening that asks the model to be somebody without rules."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import rewritten, words
from stages.world.lexicon import ROLES


class RolePlay:
    """Words before the request; the request itself and the image stay."""

    version = 1
    works_on = "any"
    pairs = False

    def fits(self, row: PromptRow) -> bool:
        """Rows whose last turn has words: the role is put before them."""
        return bool(words(row))

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """None for a row without words."""
        if not self.fits(row):
            return None
        return rewritten(row, "role_play", text=f"{rng.choice(ROLES)} {words(row)}")


PLUGIN = RolePlay()
