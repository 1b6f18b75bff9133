"""Python's garbage collector, told once that what imports and models brought is no garbage.

Counting what is frozen goes through all of it, a tenth of a second for half a million objects: who froze remembers.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_frozen = False


def freeze() -> None:
    """Leave all that is alive out of later collections, the first time that this is asked for."""
    global _frozen
    if not _is_frozen():
        gc.freeze()
    _frozen = True


def thaw() -> None:
    """Have every object looked at again."""
    global _frozen
    gc.unfreeze()
    _frozen = False


@contextmanager
def frozen() -> Iterator[None]:
    """Leave all that is alive out of collections for a while; for good where it was left out before."""
    if _is_frozen():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _is_frozen() -> bool:
    # Others freeze, too, vLLM when it starts; where nobody has, counting takes no time.
    return _frozen or gc.get_freeze_count() > 0
