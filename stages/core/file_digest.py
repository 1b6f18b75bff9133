"""The content digest of a file, computed once a process while the file stays as it is."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

_KNOWN: dict[tuple[str, int, int, int], str] = {}
"""sha256 by path, inode, size and time of change."""


def file_sha256(path: Path) -> str:
    """sha256 of a file's content in hex, read in pieces; OSError when it can't be read."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """The same, remembered by this process: a recipe reads its prompts at every turn."""
    stat = path.stat()
    # The inode, too: our files are replaced by rename, and a copy may keep size and time.
    mark = (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if mark not in _KNOWN:
        _KNOWN[mark] = file_sha256(path)
    return _KNOWN[mark]


def is_sha256(value: Any) -> bool:
    """True for 64 hex digits: what a cache says is a digest may be anything after a power loss."""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None
