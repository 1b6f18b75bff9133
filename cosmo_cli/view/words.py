"""What people say of completions while they read: lines that are only ever added to one file."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from stages.core.errors import InputError
from stages.judging.words import LONGEST, TAKEN_BACK, WORTH, Word, last_words, parse_words

LatestWords = dict[tuple[str, str], list[Word]]
"""By (prompt's id, completion), each person's last word."""


class Words:
    """The words in a file, and this reader's name."""

    def __init__(self, path: Path, who: str) -> None:
        self.path = path
        self.who = who
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._latest: LatestWords = {}

    def latest(self) -> LatestWords:
        """What everybody says by now. InputError for a file that can't be read."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return {}
        with self._lock:
            if self._stamp != (stamp := (found.st_mtime_ns, found.st_size)):
                try:
                    lines = self.path.read_text(encoding="utf-8").split("\n")
                    self._latest = last_words(parse_words(lines))
                except ValueError as error:
                    raise InputError(
                        f"words of people {self.path}: {error}", "name another file: --words FILE"
                    ) from None
                self._stamp = stamp
            return self._latest

    def say(self, *, ident: str, completion: str, verdict: str, why: str, run: str, index: int) -> None:
        """Add a word of this reader. InputError for a verdict that there is not, or a reason without end."""
        if verdict not in (*WORTH, TAKEN_BACK):
            raise InputError(f"verdict {verdict[:40]!r}: there are {', '.join(WORTH)}")
        if len(why) > LONGEST:
            raise InputError(f"a reason of {len(why):,} characters: {LONGEST:,} at most")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        word = Word(
            id=ident, completion=completion, verdict=verdict, who=self.who, when=now, why=why, run=run, index=index
        )
        line = word.as_line().encode("utf-8")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One write at the end of the file, so that two readers' lines never mix.
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)
