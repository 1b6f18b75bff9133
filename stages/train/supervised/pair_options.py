"""Which pairs of a group's completions are learned from: settings that every objective on pairs shares."""

from __future__ import annotations

from dataclasses import dataclass

from stages.core.config import option


@dataclass(frozen=True)
class PairOptions:
    """How far apart two rewards have to lie, and how many pairs of a group are drawn."""

    margin: float = option(0.5, "A pair's rewards lie at least this far apart", low=0.0)
    max_pairs: int = option(4, "Pairs a group, at most, drawn by seed; 0: all", low=0)
