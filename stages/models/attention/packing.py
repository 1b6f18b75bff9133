"""Where prompts and their completions lie in a packed sequence [prompt | c1 | ... | cG | prompt | c1 | ...]."""

from __future__ import annotations

from dataclasses import dataclass
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
