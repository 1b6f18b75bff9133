"""Batches that failed whole and were done in parts: counted where it happens, kept with the shard, told at the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder

MOST_REASONS = 3
"""How many different reasons a line names."""
_FOLDER = "halved_batches"


@dataclass(slots=True)
class Halved:
    """Batches that failed and were halved, until they fit or one row was left."""

    planned: int = 0
    """How many batches there were to be."""
    reasons: Counter[str] = field(default_factory=Counter)
    """How many were halved, by reason."""
    lost_s: float = 0.0
    """Seconds that went into their failed attempts."""

    def add(self, reason: str, seconds: float) -> None:
        """One more batch that failed."""
        self.reasons[reason] += 1
        self.lost_s += seconds

    def join(self, note: dict[str, Any] | None) -> None:
        """Count what another's `taken` says."""
        if note is not None:
            self.planned += note["planned"]
            self.reasons.update(note["halved"])
            self.lost_s += note["lost_s"]

    def taken(self) -> dict[str, Any] | None:
        """As JSON values, None where no batch failed; and count from nothing again."""
        note = {"planned": self.planned, "halved": dict(self.reasons), "lost_s": round(self.lost_s, 3)}
        failed = bool(self.reasons)
        self.planned, self.reasons, self.lost_s = 0, Counter(), 0.0
        return note if failed else None


def keep_halved(note: dict[str, Any] | None, artifact: Callable[[str], Path], name: str) -> None:
    """Put what `taken` said beside the shard, so that the closing line says it, of a run from the cache as well.

    `artifact` is the shard writer's, `name` the shard's own.
    """
    if note is not None:
        artifact(f"{_FOLDER}/{name}.json").write_text(json.dumps(note), encoding="utf-8")


def halved_numbers(folder: RunFolder) -> dict[str, Any]:
    """How many batches of a run were halved, why, and what that took; {} where none were."""
    whole = Halved()
    for path in sorted(folder.artifact(_FOLDER).glob("*.json")):
        whole.join(json.loads(path.read_text(encoding="utf-8")))
    note = whole.taken()
    return {"halved_batches": note["halved"], "halved_seconds": round(note["lost_s"], 2)} if note else {}


def halved_line(numbers: dict[str, Any], done: str) -> str:
    """The end of a closing line, empty where no batch was halved; `done` is what is done with a batch."""
    if not (reasons := Counter(numbers.get("halved_batches", {}))):
        return ""
    return (
        f"; {reasons.total()} batches failed and were {done} in halves ({counted(reasons)}):"
        f" {numbers['halved_seconds']:.1f} s lost, and smaller batches are slower"
    )


def counted(reasons: Counter[str]) -> str:
    """The most frequent reasons with their counts: `12 out of memory, 1 timed out after 5 s`."""
    common = reasons.most_common(MOST_REASONS)
    rest = reasons.total() - sum(count for _, count in common)
    named = [f"{count} {reason}" for reason, count in common]
    return ", ".join([*named, *([f"{rest} for other reasons"] if rest else [])])
