"""Look at both: the question is followed by the request to look and to read carefully, and by no fact.

The implicit setting of VTPerception-R1's study (arXiv:2509.24776), for image and words.
"""

from stages.prepare.augmentations.base import Followed
from stages.world.lexicon import LOOK_AND_READ

PLUGIN = Followed("look_both", LOOK_AND_READ)
