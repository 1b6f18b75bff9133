"""Texts that end a completion: found in what its ids decode to, token by token, whatever sampled them.

A text may begin in one token and end inside another; the ids stay as they were sampled. Only what a token adds counts:
a text that stands in the given beginning already ends nothing, one that began there and is finished now does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from schemas.rollouts import FinishReason
from stages.engines.base import SampledCompletion

Decode = Callable[[list[int]], str]
# A character takes four bytes at most, and a token holds one byte at least; what is around it may be cut.
_BYTES, _MARGIN = 4, 16


@dataclass(frozen=True, slots=True)
class StopStrings:
    """The texts, and how ids are decoded."""

    texts: list[str]
    decode: Decode
    window: int = field(init=False)
    """How many ids at the end are looked at."""

    def __post_init__(self) -> None:
        """As many ids as the longest text can take."""
        object.__setattr__(self, "window", _BYTES * max(map(len, self.texts), default=0) + _MARGIN)

    def ended_by(self, ids: list[int]) -> str | None:
        """The text that the last id finishes, the one that ends first of several; None where it finishes none."""
        tail = ids[-self.window :]
        after, before = self.decode(tail), self.decode(tail[:-1])
        # An id may also complete the bytes of a character, which stands there as a replacement before.
        known = next((at for at, (a, b) in enumerate(zip(after, before, strict=False)) if a != b), len(before))
        ends = [(end, at) for at, text in enumerate(self.texts) for end in _ends(after, text) if end > known]
        return self.texts[min(ends)[1]] if ends else None

    def first(self, ids: list[int], start: int) -> tuple[int, str] | None:
        """(how many ids up to the end, the text) of the first one that an id from `start` on finishes; None: none."""
        if not self.texts:
            return None
        found = ((end, self.ended_by(ids[:end])) for end in range(start + 1, len(ids) + 1))
        return next(((end, text) for end, text in found if text is not None), None)

    def cut(self, prefix: list[int], sampled: SampledCompletion) -> SampledCompletion:
        """A completion up to the first text that it finishes after its prefix; as it is where there is none."""
        found = self.first([*prefix, *sampled.token_ids], len(prefix))
        if found is None:
            return sampled
        kept = found[0] - len(prefix)
        ids, logprobs = sampled.token_ids[:kept], sampled.logprobs[:kept]
        return SampledCompletion(ids, logprobs, FinishReason.STOP, stopped_by=found[1])


def _ends(text: str, part: str) -> Iterator[int]:
    """Where each occurrence ends, overlapping ones too."""
    at = text.find(part)
    while at >= 0:
        yield at + len(part)
        at = text.find(part, at + 1)
