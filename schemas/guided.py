"""What guided sampling writes beside its rollouts: every choice that it made, with what it chose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.rollouts import Int32


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedCandidate:
    """One of the continuations of a choice."""

    token_ids: Sequence[Int32]
    """What was sampled, without what stands before it. Shape (T,)."""
    values: list[float] = field(default_factory=list)
    """What each dimension was thought to come to with it, in the order of `GuidedStep.dimensions`; empty for one that
    could not be sampled, and where nothing was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedStep:
    """One choice of a guided completion."""

    id: str
    """The prompt's id."""
    index: int
    """The completion's place in its group."""
    step: int
    """Which choice of the completion, from 0."""
    from_token: int
    """How many tokens the completion had."""
    dimensions: list[str] = field(default_factory=list)
    """The verifiers whose grades were predicted."""
    weights: list[float] = field(default_factory=list)
    """The weight of each dimension for this prompt; they sum to 1."""
    candidates: list[GuidedCandidate] = field(default_factory=list)
    """The continuations, in the order in which they were sampled."""
    chosen: int
    """The place of the one that was kept."""
