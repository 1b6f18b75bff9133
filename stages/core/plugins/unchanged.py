"""Whether files are still what they were, without reading them: what was computed of them is kept beside their marks.

A mark is size, times of change and inode, as git's index has it: an edit changes one of them, and nobody can set the
time of the last status change back. Folders have marks, too, so that a new file beside the old ones is seen.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from schemas.identity import digest
from stages.core.cache import cache_root


def remembered(name: str, compute: Callable[[], tuple[str, Iterable[Path]]]) -> str:
    """What `compute` says, from the user cache while the files that it went by are unchanged.

    `compute` answers with a text and the files that it went by, each of which it marked before it read it. A cache
    that can't be read or written costs time and nothing else.
    """
    note = cache_root() / "sources" / f"{digest(name)[:32]}.json"
    # None yet, damaged, or written by another version: then it is computed.
    with suppress(OSError, ValueError, KeyError):
        kept = json.loads(note.read_bytes())
        if kept["name"] == name and all(mark(path) == was for path, was in kept["marks"].items()):
            return str(kept["text"])
    text, files = compute()
    paths = sorted({str(place) for file in files for place in (file, file.parent)})
    with suppress(OSError):
        # The marks are those from before the files were read: what changed meanwhile will not be believed.
        kept = {"name": name, "text": text, "marks": {path: mark(path) for path in paths}}
        beside = note.with_name(f".{note.name}.{os.getpid()}")
        note.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(kept), encoding="utf-8")
        os.replace(beside, note)
    return text


@cache
def mark(path: str) -> list[int] | None:
    """The mark of a file or folder, looked up once a process; None where there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
