"""Substitution: the word that names the thing is replaced by a code word, which an opening line explains."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import hints, rewritten, words
from stages.world.lexicon import CODES, substitution_text


class Substitution:
    """An encoded linkage in words: the meaning is all there, and in two places."""

    version = 1
    works_on = "words"

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """None for a row whose words do not hold its keyword."""
        keyword, text = hints(row).keyword, words(row)
        if not keyword or keyword not in text:
            return None
        code = rng.choice(CODES)
        encoded = substitution_text(code, keyword, text.replace(keyword, code))
        return rewritten(row, "substitution", text=encoded)


PLUGIN = Substitution()
