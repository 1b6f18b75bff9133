"""What a stage is: a plan of shards, and a function from one shard's work to rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from schemas.rejected import RejectedRow
from schemas.tables import Table
from stages.core.resources import Resources as Resources
from stages.core.runs.halved import Halved

if TYPE_CHECKING:
    import pyarrow as pa

    from stages.core.runs.folder import RunFolder


class Progress(Protocol):
    """Where a stage tells a person how far it is. Implementations live in the command line."""

    def start(self, what: str, total: int | None, unit: str) -> None:
        """Begin a bar or a count, or go on with the one that began with the very same: shards of one run share it."""

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        """n more units are done, or none yet; the numbers are worth a look while it runs."""

    def log(self, message: str) -> None:
        """One line worth keeping."""


class Silent:
    """A Progress that says nothing."""

    def start(self, what: str, total: int | None, unit: str) -> None:
        """Ignore it: nobody watches."""

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        """Ignore it: nobody watches."""

    def log(self, message: str) -> None:
        """Ignore it: nobody watches."""


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
    shards: tuple[dict[str, Any], ...] = ()
    """What this process means to do one after another, for a stage that saves by it; empty where nobody knows yet."""
    halved: Halved = field(default_factory=Halved)
    """Where models that a stage asks count their batches that failed; the stage keeps it with each shard."""
    workers: int = 1
    """How many are known to do shards at once, so that a plan may be cut for them (`Plan.cut`)."""
    before: Plan | None = None
    """Where a run that there is is planned again, to see if it would be the same: the plan that it has, its key and its
    shards, as its manifest says. Config and inputs are the very same: what their rows came to then need not be read
    from them again. Else None."""


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
    cut: list[dict[str, Any]] = field(default_factory=list)
    """The same work in smaller shards, the rows in the same order, for several workers; empty: `shards` as they are.

    They identify nothing: a run is found by `shards`, however it was cut when it began."""


class ShardWriter(Protocol):
    """Where a shard's results go; nothing is visible until the shard is committed whole."""

    def row(self, row: Any) -> None:
        """Add one output row; rows keep their order."""

    def table(self, rows: pa.Table) -> None:
        """Add output rows that are Arrow already, in the stage's own schema."""

    def reject(self, source: str, ref: str, reason: str, detail: str) -> None:
        """One sample left out, with its reason."""

    def further(self, table: Table, row: Any) -> None:
        """Add a row of a further table, kept beside the shard; `runs.folder.further_rows` reads them."""

    def artifact(self, name: str) -> Path:
        """An empty staging folder or file path that is committed with the shard as `<run>/<name>`."""

    def sha256(self, path: Path) -> str:
        """The content digest of a finished file of an artifact: what the receipt will say of it."""

    def before_commit(self, wait: Callable[[], object]) -> None:
        """Keep a call that returns when a file of an artifact, which another thread is writing, is whole."""

    @property
    def run(self) -> Path:
        """The run folder that the shard is to be part of; nothing of it may be read or written there."""


Work = Callable[[dict[str, Any], ShardWriter], None]


@dataclass(frozen=True, slots=True)
class Quality:
    """What a finished run came to, in numbers that a person judges it by."""

    line: str = ""
    """Appended to the closing line, after the rows: `reward 1.42, 3 of 40 groups flat`. Empty: nothing to add."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """The same as JSON values, for --json and report.json."""
    warning: str | None = None
    """One line about a run that is usable and looks wrong: most of its completions failed. Exit 0."""
    failure: str | None = None
    """One line about a run that is whole and worth nothing: no group had an advantage. Exit 3."""
    hint: str = ""
    """What to type about the failure or the warning."""


class Stage(ABC):
    """A stage module's one object. Planning is cheap and loads no torch; `open` may load a model.

    `plan` and `open` are a stage's work. The other methods are hooks with a default: override what applies.
    """

    name: str
    """The verb."""
    version: int
    """Raised when the same inputs would give other rows."""
    table: Table
    """What it writes."""
    reads: tuple[Table, ...]
    """Tables it accepts; an input must be readable as the first that fits. Empty: takes no upstream."""
    needs_input: bool = True
    """Whether it can do nothing without an upstream run, where it accepts some."""
    config: type[Any]
    """Its config dataclass."""

    @abstractmethod
    def plan(self, ctx: Context) -> Plan:
        """Decide the shards and what identifies the rows; UsageError or InputError where it can't be done."""

    @abstractmethod
    def open(self, ctx: Context) -> Work:
        """Prepare for work; called only when some shard is not done yet."""

    def writes(self, config: Any) -> Table:
        """The table of a run with this config; by default `table`, which is the narrowest of a stage's tables."""
        return self.table

    def gpus(self, config: Any) -> float:
        """GPUs that one worker takes where the cluster has any; 0 by default."""
        return 0

    def quality(self, folder: RunFolder) -> Quality:
        """What the complete run came to; by default nothing is said of it.

        Called by the runner in the command's process each time a run is found or made complete, cached ones included,
        and before `deliver`. So it reads what is on disk (`folder.columns`, `folder.rows`, `folder.receipts`, rejected
        rows), keeps nothing from `open`, loads no model, writes nothing, and takes little time: project columns instead
        of reading images. The same folder gives the same answer.

        `failure` ends the command with exit code 3, the run folder staying as it is; a command that must go on
        (`Options.accept_failure`) finds it in the result. `warning` is printed, and the command goes on. A run with no
        row at all is refused by the runner itself and never comes here.
        """
        return Quality()

    def deliver(self, config: Any, path: Path) -> None:
        """Put somewhere else what the config asks for (--to, --report), or act on the result; by default nothing.

        `path` is the run folder on this machine. Called once the run is complete, for cached runs too: there it is the
        only way. Must be harmless to repeat. What it raises ends the command; the run folder stays complete.
        """
        return

    def alarms(self, config: Any, path: Path) -> dict[str, str]:
        """What a complete run warns of, by name, each in one line with its numbers; by default nothing.

        For `cosmo run`, which says of a turn only what the turn before did not warn of. The same run gives the same.
        """
        return {}


def chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    """Consecutive slices of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
