"""Bare Parquet as a complete run without lineage, so that a shard shipped on its own is still good input."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from schemas.identity import digest
from stages.core.errors import UsageError
from stages.core.file_digest import file_sha256
from stages.core.runs.shards import table_name
from stages.core.storage.base import RunFiles, RunWriter
from stages.core.storage.location import Location
from stages.core.storage.records import FileEntry, Manifest, Receipt


class LooseFiles(RunFiles):
    """One Parquet file, or those of a folder in the order of their names. There is no receipt to check them by."""

    def __init__(self, location: Location, shards: list[Path]) -> None:
        # By content: nothing was planned, so nothing else tells it from others.
        fingerprint = digest([file_sha256(p) for p in shards])
        super().__init__(location, Manifest("files", fingerprint, table_name(shards[0]), [{} for _ in shards]))
        self._shards = shards

    @property
    def config(self) -> dict[str, Any]:
        """Empty: nobody knows what made them."""
        return {}

    def has_report(self) -> bool:
        """False: no runner made it."""
        return False

    def receipts(self) -> dict[int, Receipt]:
        """Empty: nothing was committed by a receipt."""
        return {}

    def whole(self, receipt: Receipt) -> bool:
        """True: what is there is all there is."""
        return True

    def fetch(self, entry: FileEntry, receipt: Receipt) -> Path:
        """The file of that name."""
        return self.path / entry.path

    def artifact(self, name: str) -> Path:
        """A path where there is nothing."""
        return self.path / name

    def writer(self) -> RunWriter:
        """There is none: UsageError."""
        _refuse(self.location)

    def indices(self) -> list[int]:
        """The number of every file."""
        return list(range(len(self._shards)))

    def missing(self) -> list[int]:
        """None is missing: the files are the plan."""
        return []

    def shard(self, index: int) -> Path:
        """The file of that number."""
        return self._shards[index]

    def all_shards(self) -> list[Path]:
        """Every file, in the order of names."""
        return list(self._shards)


def _refuse(location: Location) -> NoReturn:
    raise UsageError(f"{location} is bare Parquet, not a run folder", "choose another place with --runs FOLDER")
