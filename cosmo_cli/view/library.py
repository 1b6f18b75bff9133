"""The runs that a view shows: found below its folders, opened once, looked at again when something has landed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosmo_cli.run_reports import find_runs
from schemas.identity import digest
from stages.core.errors import CosmoError
from stages.core.runs.folder import RunFolder
from stages.core.runs.lineage import policy_places
from stages.core.runs.noted import Note, notes, notes_in
from stages.core.storage.location import is_url

FRESH_S = 1.0
"""How long a list of runs counts as new: a page asks for it several times."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One run, as a list shows it."""

    key: str
    """What it is called in a page's address: its folder's name, and more where two are called alike."""
    path: Path
    stage: str = ""
    table: str = ""
    name: str = ""
    """What its maker called it (`--name`)."""
    date: float = 0.0
    """When its plan was written, seconds since 1970; 0 for a run in a bucket."""
    rows: int = 0
    shards: int = 0
    shards_done: int = 0
    parents: tuple[str, ...] = ()
    """Keys of those of its inputs that are here, and of the run that trained its policy."""
    wrong: str = ""
    """Why it can't be read; empty for one that can."""

    @property
    def complete(self) -> bool:
        """Whether every planned shard is there."""
        return self.shards_done == self.shards and not self.wrong


@dataclass(slots=True)
class _Seen:
    """What was read of a run, as of how many of its receipts."""

    stamp: tuple[float, int]
    entry: Entry


@dataclass(slots=True)
class Library:
    """All runs at or below some folders."""

    places: list[Path]
    _seen: dict[Path, _Seen] = field(default_factory=dict)
    _entries: dict[str, Entry] = field(default_factory=dict)
    _listed: float = -FRESH_S
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def entries(self) -> dict[str, Entry]:
        """The runs by key, the newest first. InputError when there is none."""
        with self._lock:
            if time.monotonic() - self._listed >= FRESH_S:
                self._entries = self._list()
                self._listed = time.monotonic()
            return self._entries

    def entry(self, key: str) -> Entry | None:
        """The run of that key, or None."""
        return self.entries().get(key)

    def open(self, key: str) -> RunFolder | None:
        """The run's folder, or None for a key that is none. InputError where it can't be read."""
        entry = self.entry(key)
        return RunFolder.open(entry.path) if entry is not None else None

    def state(self, key: str) -> dict[str, Any]:
        """What changes while a run goes on, or while runs appear: a page asks every two seconds."""
        entries = self.entries()
        if (entry := entries.get(key)) is not None:
            told = {"rows": entry.rows, "done": entry.shards_done, "shards": entry.shards, "complete": entry.complete}
            folder = None if entry.complete else self.open(key)
            return told | {"at": [note.at for note in notes(folder)] if folder is not None else []}
        told = {"rows": sum(e.rows for e in entries.values()), "done": sum(e.shards_done for e in entries.values())}
        return told | {"at": [note.at for _, said in self.at_work() for note in said]}

    def at_work(self) -> list[tuple[Entry | None, list[Note]]]:
        """What processes say that are at work: recipes first, then each run that is not complete."""
        found: list[tuple[Entry | None, list[Note]]] = []
        found += [(None, notes_in(place)) for place in self.places if not is_url(place)]
        for entry in self.entries().values():
            if entry.stage and not entry.complete and not is_url(entry.path):
                found.append((entry, notes(RunFolder.open(entry.path))))
        return [(entry, said) for entry, said in found if said]

    def newest(self, table: str) -> Entry | None:
        """The run of that table that was begun last, or None."""
        return next((entry for entry in self.entries().values() if entry.table == table), None)

    def _list(self) -> dict[str, Entry]:
        paths = find_runs(self.places)
        keys = _keys(paths)
        # A run in a bucket is its URL, and no other path leads to it.
        places = {_resolved(path): key for path, key in keys.items()}
        found = [self._read(path, key, places) for path, key in keys.items()]
        return {entry.key: entry for entry in sorted(found, key=lambda e: (-e.date, e.key))}

    def _read(self, path: Path, key: str, places: dict[str, str]) -> Entry:
        stamp = _stamp(path)
        seen = self._seen.get(path)
        if seen is None or seen.stamp != stamp or seen.entry.key != key:
            seen = self._seen[path] = _Seen(stamp, _entry(path, key, stamp[0], places))
        return seen.entry


def _keys(paths: Iterable[Path]) -> dict[Path, str]:
    """A key a path: the folder's name, with a few digits of the path where several have it."""
    by_name: dict[str, list[Path]] = {}
    for path in paths:
        by_name.setdefault(path.name, []).append(path)
    return {
        path: name if len(alike) == 1 else f"{name}~{digest([str(path)])[:6]}"
        for name, alike in by_name.items()
        for path in alike
    }


def _stamp(path: Path) -> tuple[float, int]:
    """When the plan was written, and how many receipts there are: what changes while a run goes on."""
    if is_url(path):
        return 0.0, -1
    try:
        return (path / "manifest.json").stat().st_mtime, sum(1 for _ in os.scandir(path / "receipts"))
    except OSError:
        return 0.0, 0


def _entry(path: Path, key: str, date: float, places: dict[str, str]) -> Entry:
    try:
        folder = RunFolder.open(path)
        receipts = folder.receipts()
        above = [_resolved(folder.input_path(e)) for e in folder.manifest.inputs]
        above += [_resolved(place) for place in policy_places(folder)]
        return Entry(
            key,
            path,
            folder.stage,
            folder.table or "",
            str(folder.manifest.provenance.get("name") or ""),
            date,
            sum(r.rows for r in receipts.values()),
            folder.total,
            len(receipts),
            tuple(dict.fromkeys(places[p] for p in above if p in places)),
        )
    except CosmoError as error:
        return Entry(key, path, date=date, wrong=error.message)
    except Exception as error:
        # A stranger's folder may lack anything, and must not hide the other runs.
        return Entry(key, path, date=date, wrong=f"it can't be read: {type(error).__name__}")


def _resolved(path: Path) -> str:
    return str(path) if is_url(path) else os.path.abspath(path)
