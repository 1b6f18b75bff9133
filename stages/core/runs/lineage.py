"""Walking back from runs to everything they were made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder


def earliest_first(folders: Iterable[RunFolder], parents: Callable[[RunFolder], list[RunFolder]]) -> list[RunFolder]:
    """The folders and all their ancestors, each once, a parent before its children."""
    found: list[RunFolder] = []
    seen: set[str] = set()
    # A stack of our own: a loop of hundreds of iterations is deeper than Python's.
    stack = [(folder, False) for folder in reversed(list(folders))]
    while stack:
        folder, ready = stack.pop()
        if ready:
            found.append(folder)
        elif folder.fingerprint not in seen:
            seen.add(folder.fingerprint)
            stack.append((folder, True))
            stack += [(parent, False) for parent in reversed(parents(folder))]
    return found
