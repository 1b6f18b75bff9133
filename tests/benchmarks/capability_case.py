"""What a case of capability benchmarks is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One benchmark: files in its layout, the rows they must give, and figures of given verdicts."""

    name: str
    files: dict[str, Any]
    rows: list[dict[str, Any]]
    """What each row must have; `prompt` is its words, `images` how many."""
    given: Sequence[str | bool | float | None]
    """A verdict a row."""
    figures: dict[str, float | None]
    options: dict[str, Any] = field(default_factory=dict)
    verifier: str = "answer"

    @property
    def id(self) -> str:
        """What pytest calls it."""
        return f"{self.name}{'-' + next(iter(self.files)) if self.options else ''}"
