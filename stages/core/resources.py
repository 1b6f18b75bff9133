"""What a process keeps warm between its stages: models, engines, optimizer states.

Python's garbage collector is told once that these, and what imports brought, are no garbage. Counting what is frozen
goes through all of it, a tenth of a second for half a million objects: who froze remembers.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast, runtime_checkable

T = TypeVar("T")


@runtime_checkable
class Closes(Protocol):
    """What has to be released by name, since it outlives its last reference: it is closed when it is dropped."""

    def close(self) -> None:
        """Give back what it holds; harmless when it holds nothing."""


@runtime_checkable
class Sleeps(Protocol):
    """What can lend an accelerator's memory to others and stay: it wakes by itself when it is used again."""

    def sleep(self) -> None:
        """Give the memory back for now; harmless when it holds none."""


@dataclass(frozen=True)
class Kind(Generic[T]):
    """One kind of thing that is kept warm. Declared once, beside the type that it holds, and imported by its users.

    Example: `POLICY: Kind[Policy] = Kind("policy", on_device=True)`.
    """

    name: str
    """What tells it from other kinds."""
    on_device: bool = False
    """Whether it holds memory of an accelerator, so that other processes need it out of their way."""


class Resources:
    """Costly things kept warm between stages of one process. One value is kept a kind.

    A cold command line starts with an empty one; nothing may depend on what is in it, only be faster.
    """

    def __init__(self) -> None:
        self._kept: dict[Kind[Any], tuple[str, Any]] = {}

    def get(self, kind: Kind[T], key: str, make: Callable[[], T]) -> T:
        """The value kept under this key, or a new one, which is kept in place of any other of its kind."""
        kept = self._kept.get(kind)
        if kept is None or kept[0] != key:
            # Made first, dropped then: a loader may reuse what the old value holds open.
            kept = (key, make())
            self.put(kind, key, kept[1])
        return cast(T, kept[1])

    def put(self, kind: Kind[T], key: str, value: T) -> None:
        """Keep this value, in place of any other of its kind."""
        # The other isn't closed: whoever took it may be using it still, as two judges of one step do.
        self._kept[kind] = (key, value)

    def peek(self, kind: Kind[T], key: str) -> T | None:
        """The value kept under this key, or None."""
        kept = self._kept.get(kind)
        return cast(T, kept[1]) if kept is not None and kept[0] == key else None

    def kept(self, kind: Kind[T]) -> T | None:
        """Whatever is kept of this kind, or None."""
        kept = self._kept.get(kind)
        return cast(T, kept[1]) if kept is not None else None

    def drop(self, kind: Kind[Any]) -> None:
        """Let go of whatever is kept of this kind, and close it where it can be."""
        _, value = self._kept.pop(kind, ("", None))
        if isinstance(value, Closes):
            value.close()

    def drop_devices(self) -> None:
        """Let go of all that holds an accelerator's memory: other processes are about to need it."""
        for kind in [k for k in self._kept if k.on_device]:
            self.drop(kind)

    def lend_devices(self) -> None:
        """The same for a while: what can sleep does so and stays, all else goes."""
        for kind, (_, value) in list(self._kept.items()):
            if isinstance(value, Resources):
                value.lend_devices()
            elif isinstance(value, Sleeps):
                value.sleep()
            elif kind.on_device:
                self.drop(kind)

    def sleep(self) -> None:
        """Have what can sleep do so: this very process is about to need an accelerator's memory for training."""
        for _, value in self._kept.values():
            if isinstance(value, Sleeps):
                value.sleep()

    def close(self) -> None:
        """Let go of everything: a judge keeps what it has loaded in resources of its own, inside of these."""
        for kind in list(self._kept):
            self.drop(kind)


_frozen = False


def freeze_objects() -> None:
    """Leave all that is alive out of later collections, the first time that this is asked for."""
    global _frozen
    if not _is_frozen():
        gc.freeze()
    _frozen = True


def thaw_objects() -> None:
    """Have every object looked at again."""
    global _frozen
    gc.unfreeze()
    _frozen = False


@contextmanager
def frozen_objects() -> Iterator[None]:
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
