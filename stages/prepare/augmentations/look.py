"""Look: the question is followed by the request to look carefully, and by no fact.

The implicit setting of VTPerception-R1's study (arXiv:2509.24776).
"""

from stages.prepare.augmentations.base import Followed
from stages.world.lexicon import LOOK

PLUGIN = Followed("look", LOOK)
