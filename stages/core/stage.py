"""What a stage is: a plan of shards, and a function from one shard's work to rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from schemas.rejected import RejectedRow
from schemas.tables import Table

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder


class Progress(Protocol):
    """Where a stage tells a person how far it is. Implementations live in the command line."""

    def start(self, what: str, total: int | None, unit: str) -> None:
        """Begin a bar or a count."""

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        """n more units are done; the numbers are worth a look while it runs."""

    def log(self, message: str) -> None:
        """One line worth keeping."""


class Silent:
    """A Progress that says nothing."""

    def start(self, what: str, total: int | None, unit: str) -> None:
        """Nothing."""

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        """Nothing."""

    def log(self, message: str) -> None:
        """Nothing."""


class Resources:
    """Costly things kept warm between stages of one process: models, engines, optimizer states.

    A cold command line starts with an empty one; nothing may depend on what is in it, only be faster.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Any] = {}

    def get(self, kind: str, key: str, make: Callable[[], Any]) -> Any:
        """The held value, or a new one. One value is held a kind: a new key drops the old value."""
        if (kind, key) not in self._held:
            value = make()
            self.put(kind, key, value)
        return self._held[(kind, key)]

    def put(self, kind: str, key: str, value: Any) -> None:
        """Hold this value, in place of any other of its kind."""
        self.drop(kind)
        self._held[(kind, key)] = value

    def peek(self, kind: str, key: str) -> Any | None:
        """The held value, or None."""
        return self._held.get((kind, key))

    def drop(self, kind: str) -> None:
        """Let go of whatever is held of this kind."""
        for held in [k for k in self._held if k[0] == kind]:
            del self._held[held]


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage is given: its config, its inputs, and the means to report and to reuse."""

    config: Any
    """The stage's resolved config dataclass."""
    inputs: list[RunFolder]
    """Upstream run folders, complete unless --partial was asked for."""
    progress: Progress
    """Where to report."""
    resources: Resources
    """What may be reused from an earlier stage in this process."""
    scratch: Path | None = None
    """A private folder for resumable state of the shard in hand; survives a kill; None while planning."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The frozen decision of what will be done, made before any heavy work."""

    shards: list[dict[str, Any]]
    """One JSON-able work description a shard; order fixed; written to manifest.json as it is."""
    key: dict[str, Any]
    """What can change rows beyond config and upstream: plugin versions, policy identity, source digests."""
    rejected: list[RejectedRow] = field(default_factory=list)
    """Samples already left out while planning (duplicates, contamination); kept with shard 0."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Worth recording and not part of identity: versions, counts."""


class ShardWriter(Protocol):
    """Where a shard's results go; nothing is visible until the shard is committed whole."""

    def row(self, row: Any) -> None:
        """One output row."""

    def reject(self, source: str, ref: str, reason: str, detail: str) -> None:
        """One sample left out, with its reason."""

    def artifact(self, name: str) -> Path:
        """An empty staging folder or file path that is committed with the shard as `<run>/<name>`."""

    def sha256(self, path: Path) -> str:
        """The content digest of a finished file of an artifact: what the receipt will say of it."""


Work = Callable[[dict[str, Any], ShardWriter], None]


class Stage(Protocol):
    """A stage module's one object. Planning is cheap and loads no torch; `open` may load a model."""

    name: str
    """The verb."""
    version: int
    """Raised when the same inputs would give other rows."""
    table: Table
    """What it writes."""
    reads: tuple[Table, ...]
    """Tables it accepts; an input must be readable as the first that fits. Empty: takes no upstream."""
    config: type[Any]
    """Its config dataclass."""

    def plan(self, ctx: Context) -> Plan:
        """Decide the shards."""

    def open(self, ctx: Context) -> Work:
        """Prepare for work; called only when some shard is not done yet."""


def chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    """Consecutive slices of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
