"""The files of one run behind one interface, wherever they lie: what reads them, and what alone may write them.

A reader never changes what it reads. So the two are apart: `RunFiles` is what everybody has, `RunWriter` is what the
runner asks for when it makes a run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.core.storage.location import Location
from stages.core.storage.records import FileEntry, Manifest, Receipt


class RunFiles(ABC):
    """The files of a run that has a manifest.

    A shard is committed by its receipt. Where a death came between the receipt and the last rename, its files still lie
    where they were staged: they are read from there, and whoever makes the run again moves them.
    """

    def __init__(self, location: Location, manifest: Manifest) -> None:
        self.location = location
        self.manifest = manifest
        self.path = location.path
        """The run folder on this machine; for a bucket, its mirror."""
        self.one_look = False
        """Whether receipts and missing shards may stay as they were found first: for who looks at a thousand runs that
        are made from each other. Whoever makes or waits must look each time."""
        self._missing: list[int] | None = None

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The resolved config that it ran with; empty where there is none."""

    @abstractmethod
    def has_report(self) -> bool:
        """True when the run has its `report.json`."""

    def report(self) -> Any:
        """What `report.json` says of the complete run; None where there is none. InputError when it can't be read."""
        return None

    @abstractmethod
    def receipts(self) -> dict[int, Receipt]:
        """All receipts by shard index; of a bucket, as of the last look."""

    def receipt(self, index: int) -> Receipt | None:
        """The receipt of one shard; None where it is not committed."""
        return self.receipts().get(index)

    @abstractmethod
    def whole(self, receipt: Receipt) -> bool:
        """True when every file of a receipt is there in its size, but for pruned ones."""

    @abstractmethod
    def fetch(self, entry: FileEntry, receipt: Receipt) -> Path:
        """Where a committed file lies on this machine, its content checked; InputError when it is another or gone."""

    @abstractmethod
    def artifact(self, name: str) -> Path:
        """Where a committed file or folder lies on this machine; nothing is there when the run has none."""

    @abstractmethod
    def writer(self) -> RunWriter:
        """What may change the run."""

    def look(self) -> None:
        """See what others have done since; a folder of this machine is looked at each time anyway."""
        return

    def indices(self) -> list[int]:
        """The shards that can be read, in order."""
        return sorted(self.receipts())

    def missing(self) -> list[int]:
        """Indices of planned shards that are not committed, or whose files are gone: looks again."""
        if self._missing is None or not self.one_look:
            self.look()
            receipts = self.receipts()
            planned = range(len(self.manifest.shards))
            self._missing = [i for i in planned if i not in receipts or not self.whole(receipts[i])]
        return list(self._missing)

    def committed(self, index: int) -> bool:
        """True when a shard is committed and its files are there: looks again."""
        self.look()
        receipt = self.receipt(index)
        return receipt is not None and self.whole(receipt)

    def shard(self, index: int) -> Path:
        """A committed shard on this machine, its content checked; InputError when it is not committed."""
        if (receipt := self.receipt(index)) is None:
            raise InputError(
                f"shard {self.location}/shards/{index:05d}.parquet is not committed",
                f"finish it: rerun the {self.manifest.stage} command",
            )
        return self.fetch(receipt.shard, receipt)

    def all_shards(self) -> list[Path]:
        """Every committed shard, in order."""
        return [self.fetch(r.shard, r) for _, r in sorted(self.receipts().items())]

    def rejected(self) -> Sequence[Path]:
        """The files of rejected rows, in order."""
        receipts = [r for _, r in sorted(self.receipts().items())]
        return [self.fetch(e, r) for r in receipts for e in r.files if e.top == "rejected"]


class RunWriter(ABC):
    """What the runner does to a run folder. No method needs the others to have been called in this process."""

    @abstractmethod
    def freeze(self, config: dict[str, Any], manifest: Manifest) -> None:
        """Write the plan; in a bucket, unless another machine has."""

    @abstractmethod
    def commit(self, root: Path, receipt: Receipt) -> bool:
        """Publish a shard's files from a local folder. False when another process was first; then nothing is changed.

        `root` is the receipt's staging folder on this machine; its files are on disk already.
        """

    @abstractmethod
    def finish(self, receipt: Receipt) -> None:
        """Complete a commit that stopped after its receipt: every file gets its final name."""

    @abstractmethod
    def forget(self, index: int) -> None:
        """Drop a receipt whose files are gone, and what is left of them: the shard is made again."""

    @abstractmethod
    def mark(self, receipt: Receipt) -> None:
        """Replace a receipt by one that says more of the same files: that some were pruned."""

    @abstractmethod
    def clean(self) -> None:
        """Remove what killed processes left behind. Only for a complete run whose commits are finished."""

    @abstractmethod
    def publish(self, name: str) -> None:
        """See that a small file of the folder on this machine is where the run is."""
