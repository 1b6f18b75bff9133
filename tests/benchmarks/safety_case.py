"""What a case of safety and value benchmarks is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from schemas.scored import Grade


@dataclass(frozen=True)
class Case:
    """One benchmark: files in its layout, the rows they must give, and figures of given grades."""

    name: str
    files: dict[str, Any]
    rows: list[dict[str, Any]]
    """What each row must have; `prompt` is its words, `images` the pixels of each at the corner."""
    given: list[str | Grade | None]
    """A grade a row, or the verdict of one by `verifier`; None is an undecided one."""
    figures: dict[str, float | None]
    verifier: str = "safety"
    options: dict[str, Any] = field(default_factory=dict)


SD, TYPO, BOTH = COLOURS = (250, 0, 0), (0, 250, 0), (0, 0, 250)
"""Of images that stand for a benchmark's own kinds."""
