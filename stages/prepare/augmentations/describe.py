"""Describe: the question asks a teacher for description, reasoning and answer, each in its tags."""

from __future__ import annotations

from random import Random

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import followed, is_seen_question

# In VTPerception-R1 the chain is derived anew from question and description alone.
ASKED = """
Reply in three parts and nothing else:
<description>what the picture shows of what the question needs, and nothing that follows from it</description>
<think>the reasoning, from the question and the description alone</think>
<answer>the answer alone</answer>"""


class Describe:
    """The rows of VTPerception-R1's first stage (arXiv:2509.24776), for a teacher on any engine; the words are ours."""

    version = 1
    works_on = "image"
    pairs = False

    def fits(self, row: PromptRow) -> bool:
        """Questions about an image that nobody's harm hangs on."""
        return is_seen_question(row)

    def apply(self, row: PromptRow, rng: Random) -> PromptRow | None:
        """The image and the question stay; None for a row that is none."""
        return followed(row, "describe", ASKED.strip()) if self.fits(row) else None


PLUGIN = Describe()
