"""Word shuffle: the request's words in another order."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import rewritten, words

_FEWEST = 4
"""Words below which no order is hard to read."""


class WordShuffle:
    """The text half of shuffle attacks (SI-Attack, arXiv:2501.04931); images stay as they are."""

    version = 1
    works_on = "any"
    pairs = False

    def fits(self, row: PromptRow) -> bool:
        """Rows with enough words, not all of them the same."""
        return len(words(row).split()) >= _FEWEST and len(set(words(row).split())) > 1

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """Always another order than before; None for fewer than four words, or all words equal."""
        if not self.fits(row):
            return None
        before = words(row).split()
        after = list(before)
        # Ends because `fits` saw two different words.
        while after == before:
            rng.shuffle(after)
        return rewritten(row, "word_shuffle", text=" ".join(after))


PLUGIN = WordShuffle()
