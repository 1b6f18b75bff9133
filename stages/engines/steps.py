"""Where the steps of a completion end: what value models learn at, where guided sampling stops to choose, and what step
verifiers grade.

The first two ask the same function, token by token, so that a value model is asked at the very places that it learned
at. A step ends with the token that finishes one of its texts; the last one ends with the completion. In text a step
ends with the text itself, which is where a tokenizer of characters would end it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from schemas.rollouts import Span
from stages.engines.stop_strings import StopStrings

STEP_ENDS: dict[str, list[str]] = {
    # A decimal point ends one, too: it can't be told before the next token, and costs one choice more.
    "sentence": [".", "!", "?", "。", "！", "？"],
    "line": ["\n"],
    "tag": ["</description>", "</think>", "</search>", "</read>", "</confidence>", "</answer>"],
}
"""The texts that end a step, by the name of a way to split."""


def step_ends(token_ids: Sequence[int], decode: Callable[[list[int]], str], step: str) -> list[int]:
    """How many tokens the completion has at the end of each of its steps, ascending; the last is all of them.

    KeyError for a way to split that there is none of. An empty completion has no step.
    """
    ids, stops, found, begun = list(token_ids), StopStrings(STEP_ENDS[step], decode), [], 0
    while (end := stops.first(ids, begun)) is not None:
        begun = end[0]
        found.append(begun)
    return found if begun == len(ids) else [*found, len(ids)]


@dataclass(frozen=True, slots=True)
class TextStep:
    """A step of a completion's text."""

    start: int
    """The place of its first character in the whole text."""
    stop: int
    """The place after its last."""
    text: str
    """Its words and tags."""
    read: tuple[str, ...] = ()
    """What an environment had said before it, one text an observation, with its tags."""


_TAG = re.compile(r"</?\w+>")
_WORD = re.compile(r"\w")


def text_steps(text: str, step: str, observed: Sequence[Span] = ()) -> list[TextStep]:
    """The steps of a text that have a word, in order; KeyError for a way to split that there is none of.

    `observed` is what of it an environment wrote: never part of a step, and a step ends before it.
    """
    begins, ends = [0, *(span.stop for span in observed)], [*(span.start for span in observed), len(text)]
    said = [text[span.start : span.stop] for span in observed]
    found = []
    for turn, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        stops = [match.end() for match in _ends_of(step).finditer(text, begin, end)]
        # What stands behind the last end is a step as well.
        for stop in [*stops, end]:
            found.append(TextStep(begin, stop, text[begin:stop], tuple(said[:turn])))
            begin = stop
    return [one for one in found if _WORD.search(_TAG.sub("", one.text))]


@cache
def _ends_of(step: str) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, STEP_ENDS[step])))
