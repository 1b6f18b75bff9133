"""Where prompts and their completions lie in a packed sequence [prompt | c1 | ... | cG | prompt | c1 | ...]."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PackedGroup:
    """A prompt and its completions, one after the other in the packed sequence."""

    prompt: int
    """Tokens of the prompt."""
    completions: list[int]
    """Tokens of each completion."""
    both_ways: list[tuple[int, int]] = field(default_factory=list)
    """Parts [begin, end) of the prompt whose tokens all see each other; what else there is sees its past."""

    @property
    def tokens(self) -> int:
        """How much of the sequence it takes."""
        return self.prompt + sum(self.completions)


class Packing:
    """The groups of one packed sequence, in order.

    No dataclass: what wraps a model for several processes looks for tensors in those, and copies them.
    """

    def __init__(self, groups: list[PackedGroup]) -> None:
        self.groups = groups
        self._starts: tuple[Tensor, Tensor] | None = None
        self._seen: dict[tuple[int, int | None], Tensor] = {}

    @property
    def queries(self) -> list[int]:
        """Tokens of each prompt and completion, in order."""
        return [length for g in self.groups for length in (g.prompt, *g.completions)]

    @property
    def keys(self) -> list[int]:
        """How many tokens each of these sees at its end: a prompt itself, a completion also its prompt."""
        return [length for g in self.groups for length in (g.prompt, *(g.prompt + c for c in g.completions))]

    def starts(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Where queries and keys of each begin, and the last ends: int32, (N + 1,) each. All layers ask for them."""
        if self._starts is None:
            both = (list(accumulate(lengths, initial=0)) for lengths in (self.queries, self.keys))
            queries, keys = (torch.tensor(starts, dtype=torch.int32, device=device) for starts in both)
            self._starts = queries, keys
        return self._starts

    def seen_in_prompt(self, number: int, window: int | None, device: torch.device) -> Tensor | None:
        """Who sees whom in the prompt of a group, (P, P); None where each token sees the whole of its past.

        A layer with a window sees only the last `window` tokens, its own with them, of the past. All layers ask.
        """
        group = self.groups[number]
        if not group.both_ways and (window is None or window >= group.prompt):
            return None
        if (number, window) not in self._seen:
            seen_PP = torch.ones(group.prompt, group.prompt, dtype=torch.bool, device=device).tril()
            for begin, end in group.both_ways:
                seen_PP[begin:end, begin:end] = True
            self._seen[number, window] = seen_PP if window is None else seen_PP.triu(1 - window)
        return self._seen[number, window]
