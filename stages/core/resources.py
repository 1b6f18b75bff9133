"""What a process keeps warm between its stages: models, engines, optimizer states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


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
        self._kept[kind] = (key, value)

    def peek(self, kind: Kind[T], key: str) -> T | None:
        """The value kept under this key, or None."""
        kept = self._kept.get(kind)
        return cast(T, kept[1]) if kept is not None and kept[0] == key else None

    def drop(self, kind: Kind[Any]) -> None:
        """Let go of whatever is kept of this kind."""
        self._kept.pop(kind, None)

    def drop_devices(self) -> None:
        """Let go of all that holds an accelerator's memory: other processes are about to need it."""
        for kind in [k for k in self._kept if k.on_device]:
            self.drop(kind)
