"""How far a process is with a run, kept in the run's folder while it is at it, for whoever looks on from elsewhere.

What does many runs, as `cosmo run` does, keeps a note beside them in the same form.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.core.runs.folder import RunFolder
from stages.core.stage import Progress
from stages.core.storage.local import inside
from stages.core.storage.location import is_url

SUFFIX = ".progress.json"
_EVERY = 1.0
"""Seconds between two notes."""
_FORGOTTEN = 600.0
"""Seconds after which a note is a dead process's. What takes longer between two signs of progress is rare."""
_LARGEST = 10_000


@dataclass(frozen=True, slots=True)
class Note:
    """What one process said last."""

    what: str
    done: int
    total: int | None
    unit: str
    numbers: dict[str, str]
    began: float
    """When it began to count, in seconds since 1970."""
    at: float
    """When it said so."""

    @property
    def speed(self) -> float | None:
        """So many a second so far; None where nobody can tell."""
        return self.done / (self.at - self.began) if self.done and self.at > self.began else None

    @property
    def seconds_left(self) -> float | None:
        """At the speed so far; None where nobody can tell."""
        if self.total is None or (speed := self.speed) is None:
            return None
        return max(0, self.total - self.done) / speed

    def keep(self, path: Path) -> None:
        """Put it there, for whoever looks on; on a full disk nothing is kept, and nothing raised."""
        # Nobody waits for it: a reader that meets half of it looks again, and a full disk is for rows to meet.
        with suppress(OSError):
            path.write_text(json.dumps(asdict(self)), encoding="utf-8")


@contextmanager
def noted(progress: Progress, folder: RunFolder) -> Iterator[Progress]:
    """A progress that is also kept in the run's folder, as long as this lasts; only the given one for a bucket's."""
    if is_url(folder.where):
        yield progress
        return
    path = inside(folder.path, "staging") / f"{os.getpid()}{SUFFIX}"
    try:
        yield _Noted(progress, path)
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def notes(folder: RunFolder) -> list[Note]:
    """What processes that are at work on a run of this machine said lately, by what they do."""
    if is_url(folder.where):
        return []
    return notes_in(inside(folder.path, "staging"))


def notes_in(place: Path) -> list[Note]:
    """What the notes in a folder of this machine said lately."""
    paths = place.glob(f"*{SUFFIX}")
    found = [note for path in sorted(paths) if (note := _read(path)) is not None]
    return sorted((n for n in found if time.time() - n.at < _FORGOTTEN), key=lambda note: (note.what, note.began))


class _Noted:
    """Says everything to another, and keeps how far it is."""

    def __init__(self, progress: Progress, path: Path) -> None:
        self._progress, self._path = progress, path
        self._asked: tuple[str, int | None, str] | None = None
        self._done, self._numbers = 0, dict[str, str]()
        self._began = self._last = 0.0

    def start(self, what: str, total: int | None, unit: str) -> None:
        """Begin to count, or go on."""
        self._progress.start(what, total, unit)
        if self._asked != (what, total, unit):
            self._asked = what, total, unit
            self._done, self._numbers, self._began, self._last = 0, {}, time.time(), 0.0
            self._keep()

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        """Count so much more."""
        self._done += n
        self._numbers |= {k: v if isinstance(v, str) else f"{v:.4g}" for k, v in numbers.items()}
        self._keep()
        self._progress.advance(n, **numbers)

    def log(self, message: str) -> None:
        """Lines are for whoever runs it."""
        self._progress.log(message)

    def _keep(self) -> None:
        now = time.time()
        if self._asked is None or now - self._last < _EVERY:
            return
        self._last = now
        what, total, unit = self._asked
        Note(what, self._done, total, unit, self._numbers, self._began, now).keep(self._path)


def _read(path: Path) -> Note | None:
    try:
        if path.is_symlink() or path.stat().st_size > _LARGEST:
            return None
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        total = record["total"]
        numbers = {str(k): str(v) for k, v in record["numbers"].items()}
        return Note(
            str(record["what"]), int(record["done"]), None if total is None else int(total), str(record["unit"]),
            numbers, float(record["began"]), float(record["at"]),
        )  # fmt: skip
    except (OSError, InputError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
