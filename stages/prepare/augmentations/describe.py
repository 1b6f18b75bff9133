"""Describe: the question asks a teacher for description, reasoning and answer, each in its tags.

The rows of VTPerception-R1's first stage (arXiv:2509.24776), for a teacher on any engine; the words are ours.
"""

from stages.prepare.augmentations.base import Followed

# In VTPerception-R1 the chain is derived anew from question and description alone.
ASKED = """
Reply in three parts and nothing else:
<description>what the picture shows of what the question needs, and nothing that follows from it</description>
<think>the reasoning, from the question and the description alone</think>
<answer>the answer alone</answer>"""

PLUGIN = Followed("describe", ASKED.strip())
