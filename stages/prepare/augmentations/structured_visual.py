"""Structured visual grounding: the question asks that what is seen be written down before it is answered.

The self-written structure of VTPerception-R1's study (arXiv:2509.24776), of what is seen alone.
"""

from stages.prepare.augmentations.base import Followed
from stages.world.lexicon import WRITE_SEEN

PLUGIN = Followed("structured_visual", WRITE_SEEN)
