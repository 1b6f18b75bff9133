"""Structured visual and text grounding: what is seen and what the words tell are to be written down first.

The self-written structure of VTPerception-R1's study (arXiv:2509.24776), of image and words.
"""

from stages.prepare.augmentations.base import Followed
from stages.world.lexicon import WRITE_BOTH

PLUGIN = Followed("structured_visual_text", WRITE_BOTH)
