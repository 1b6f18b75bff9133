"""A run as everybody reads it: what was planned, and the rows of what is committed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.tables import REJECTED, Table
from stages.core.runs.open import find_files, open_files
from stages.core.storage.base import RunFiles
from stages.core.storage.location import Location, locate_input
from stages.core.storage.records import InputRef, Manifest, Receipt

if TYPE_CHECKING:
    import pyarrow as pa


class RunFolder:
    """One stage's output: `manifest.json`, `config.json`, `shards/`, `receipts/`, and artifacts.

    A bare Parquet file, or a folder of them, is read as a complete run without lineage. A run in a bucket is read
    through its mirror: files are fetched into `path` when they are asked for. Reading changes nothing in a run, and
    whatever is wrong in one is an InputError.
    """

    def __init__(self, files: RunFiles) -> None:
        self.files = files
        self.path = files.path
        """The run folder on this machine; for a bucket, its mirror, where not all of it need be."""
        self.manifest: Manifest = files.manifest
        self._listed: list[int] | None = None
        self._paths: list[Path] = []

    @classmethod
    def open(cls, path: Path | str | Location) -> RunFolder:
        """The run at a path or URL; InputError when there is none."""
        return cls(open_files(path))

    @classmethod
    def find(cls, path: Path | str | Location) -> RunFolder | None:
        """The run at a path or URL that has a manifest, or None."""
        found = find_files(path)
        return cls(found) if found is not None else None

    @property
    def where(self) -> str:
        """What people and other commands call it: its path, or its URL."""
        return str(self.files.location)

    @property
    def stage(self) -> str:
        """The verb that made it; `files` for bare Parquet."""
        return self.manifest.stage

    @property
    def fingerprint(self) -> str:
        """What identifies its content: 64 hex digits."""
        return self.manifest.fingerprint

    @property
    def table(self) -> str | None:
        """The name of the table its shards hold."""
        return self.manifest.table

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config it ran with; empty for bare Parquet."""
        return self.files.config

    @property
    def total(self) -> int:
        """How many shards are planned."""
        return len(self.manifest.shards)

    def receipt(self, index: int) -> Receipt | None:
        """The receipt of a committed shard, or None."""
        return self.files.receipt(index)

    def receipts(self) -> dict[int, Receipt]:
        """All receipts by shard index; none for bare Parquet."""
        return self.files.receipts()

    def missing(self) -> list[int]:
        """Indices of shards that are not committed, or whose files are gone."""
        return self.files.missing()

    @property
    def complete(self) -> bool:
        """True when every planned shard is committed and its files are there."""
        return not self.missing()

    def shard_paths(self) -> list[Path]:
        """Committed shards in order, their content checked against their receipts."""
        # A stage asks for every shard that it makes; only another receipt changes the answer.
        listed = self.files.indices()
        if listed != self._listed or not all(path.is_file() for path in self._paths):
            self._paths, self._listed = self.files.all_shards(), listed
        return list(self._paths)

    def rows(self, table: Table) -> Iterator[Any]:
        """All rows in order, read as the table's dataclass; a shard is looked at when its turn comes."""
        for index in self.files.indices():
            yield from self.shard_rows(table, index)

    def shard_rows(self, table: Table, index: int) -> Iterator[Any]:
        """The rows of one shard; InputError when it is not committed."""
        from stages.core.runs.shards import read_rows

        return read_rows(self.files.shard(index), table)

    def rejected(self) -> Iterator[Any]:
        """All rejected rows in order."""
        from stages.core.runs.shards import read_rows

        for path in self.files.rejected():
            yield from read_rows(path, REJECTED)

    def columns(self, names: list[str]) -> pa.Table:
        """A projection over all shards; no image is read unless it is named."""
        import pyarrow as pa

        from stages.core.runs.shards import read_columns

        return pa.concat_tables([read_columns(p, names) for p in self.shard_paths()])

    def upstream(self) -> list[RunFolder]:
        """The runs it was made from, as far as they are still where they were."""
        found = (RunFolder.find(self.input_path(entry)) for entry in self.manifest.inputs)
        return [folder for folder in found if folder is not None]

    def input_path(self, entry: InputRef) -> Path:
        """Where an input that the manifest names lies: a path of this machine, or a URL."""
        return Path(str(locate_input(entry.path, self.files.location)))

    def artifact(self, name: str) -> Path:
        """Where a committed file or folder lies on this machine; nothing is there when the run has none."""
        return self.files.artifact(name)


def artifact(run: Path, name: str) -> Path:
    """Where a file or folder of a run lies on this machine; a run in a bucket has it fetched first."""
    return RunFolder.open(run).artifact(name)


def further_rows(run: RunFolder, table: Table) -> Iterator[Any]:
    """All rows of a further table that the run's stage wrote beside its shards, in order; none where it wrote none."""
    from stages.core.runs.shards import read_rows

    for index in run.files.indices():
        path = run.artifact(f"{table.name}/{index:05d}.parquet")
        if path.is_file():
            yield from read_rows(path, table)
