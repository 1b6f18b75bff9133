"""Judges' answers by content, in one small SQLite file that several processes may share.

It saves work and decides nothing: an answer that is found is the one that was given, and a file that can't be read or
written costs asking again. Plain rollback journal, since write-ahead logs need shared memory that network file systems
lack; no fsync, since a killed process loses nothing that way and a lost file is only a lost cache.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

# How long to wait while another process writes.
_PATIENCE_S = 10.0


class AnswerCache:
    """Answers by key; without a folder it holds nothing."""

    def __init__(self, folder: Path | None, complain: Callable[[str], None]) -> None:
        self._path = None if folder is None else folder / "answers.sqlite"
        self._complain = complain
        self._open: sqlite3.Connection | None = None

    def get(self, keys: Iterable[str]) -> dict[str, str]:
        """The answers that are there."""
        found = {}
        try:
            if (db := self._connection()) is not None:
                for key in keys:
                    if row := db.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone():
                        found[key] = str(row[0])
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
        return found

    def put(self, key: str, answer: str) -> None:
        """Keep an answer; the first one stays."""
        try:
            if (db := self._connection()) is not None:
                # OR IGNORE: of two processes that asked at once, the first one's answer is what both will find later.
                db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, answer))
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _connection(self) -> sqlite3.Connection | None:
        if self._open is None and self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # `isolation_level=None` commits each statement by itself: no lock is held while the judge thinks.
            self._open = sqlite3.connect(self._path, timeout=_PATIENCE_S, isolation_level=None)
            self._open.execute("PRAGMA synchronous = OFF")
            self._open.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"
            )
        return self._open

    def _give_up(self, error: Exception) -> None:
        self._complain(f"judges' answers are not kept: {self._path}: {error}; delete the file if it is broken")
        # Asked no more in this run: the next question would meet the same fault.
        self._path = self._open = None
