"""A completion's text in steps, as people see them: sentences and lines, together the text to the letter.

A value model is asked between tokens, and has steps of its own (`stages.engines.steps`).
"""

from __future__ import annotations

import re

# After the end of a sentence, before the blank that follows it: models' words begin with theirs. After a line's end.
_BOUNDARY = re.compile(r"(?<=[.!?;])(?=\s)|(?<=[\u3002\uff01\uff1f])|(?<=\n)(?=[^\n])")
_TAG = re.compile(r"</?\w+>")


def split_steps(text: str) -> list[str]:
    """The steps in order; joined they are the text. One without a word of its own, a tag or a blank line, is no step:
    it belongs to the one after it, the last ones to the one before.
    """
    steps: list[str] = []
    open_piece = ""
    for piece in _BOUNDARY.split(text):
        open_piece += piece
        if re.search(r"\w", _TAG.sub("", open_piece)):
            steps.append(open_piece)
            open_piece = ""
    if open_piece and steps:
        steps[-1] += open_piece
    elif open_piece:
        steps.append(open_piece)
    return steps
