"""Where the steps of a completion end: what value models learn at, and where guided sampling stops to choose.

Both ask the same function, token by token, so that a value model is asked at the very places that it learned at. A step
ends with the token that finishes one of its texts; the last one ends with the completion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
