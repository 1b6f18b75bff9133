"""Run folders, write side: stage files, create the receipt, rename. The receipt is the commit."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.rejected import RejectedRow
from schemas.tables import REJECTED, Table
from stages.core.file_digest import file_sha256
from stages.core.parallel_map import in_order
from stages.core.runs.folder import RunFolder
from stages.core.runs.shards import ShardFile
from stages.core.storage.local import inside
from stages.core.storage.records import FileEntry, Receipt, check_name


class StagedShard:
    """The ShardWriter of the runner: everything of one shard, in a staging folder until it is committed.

    Making one touches nothing. Whoever calls `begin` calls `commit` or `abandon` afterwards, whatever happens between.
    """

    def __init__(self, folder: RunFolder, stage: str, table: Table, index: int) -> None:
        self._folder, self._stage, self._table, self._index = folder, stage, table, index
        # A folder for each try: whoever loses a race deletes its own files and no others.
        self.root = folder.path / "staging" / f"{index:05d}.{uuid.uuid4().hex[:8]}"
        self._name = f"{index:05d}.parquet"
        self._rows: ShardFile | None = None
        self._beside: dict[str, ShardFile] = {}
        self._reasons: dict[str, int] = {}
        self._digests: dict[Path, str] = {}
        self._under_way: list[Callable[[], object]] = []
        self._started = time.monotonic()

    @property
    def run(self) -> Path:
        """The run folder that it is to be part of."""
        return self._folder.path

    def begin(self) -> None:
        """Open the shard's file, so that a stage that writes no row leaves an empty one."""
        (self.root / "shards").mkdir(parents=True)
        self._rows = ShardFile(self.root / "shards" / self._name, self._table)

    def row(self, row: Any) -> None:
        """Add one output row to the staged shard."""
        assert self._rows is not None, "begin() comes first"
        self._rows.add(row)

    def table(self, rows: pa.Table) -> None:
        """Add output rows that are Arrow already."""
        assert self._rows is not None, "begin() comes first"
        self._rows.add_table(rows)

    def reject(self, source: str, ref: str, reason: str, detail: str) -> None:
        """One sample left out, with its reason."""
        self.keep_rejected(RejectedRow(stage=self._stage, source=source, ref=ref, reason=reason, detail=detail))

    def keep_rejected(self, row: RejectedRow) -> None:
        """A rejected row as it is."""
        self.further(REJECTED, row)
        self._reasons[row.reason] = self._reasons.get(row.reason, 0) + 1

    def further(self, table: Table, row: Any) -> None:
        """Add a row of a table beside the shard's own, in a file `<table's name>/` with the shard's number."""
        if table.name not in self._beside:
            (self.root / table.name).mkdir()
            self._beside[table.name] = ShardFile(self.root / table.name / self._name, table)
        self._beside[table.name].add(row)

    def artifact(self, name: str) -> Path:
        """A staging path that is committed with the shard as `<run>/<name>`; ValueError for a name that is not free."""
        if why := check_name(name):
            raise ValueError(f"the artifact {name!r} {why}")
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def sha256(self, path: Path) -> str:
        """The digest of a staged file that is finished; it is computed once."""
        if path not in self._digests:
            self._digests[path] = file_sha256(path)
        return self._digests[path]

    def before_commit(self, wait: Callable[[], object]) -> None:
        """Keep what waits for a file that another thread is writing: `commit` calls it first, and raises its errors."""
        self._under_way.append(wait)

    def commit(self) -> bool:
        """Publish the shard. False when another process was first; then ours is deleted."""
        assert self._rows is not None, "begin() comes first"
        for wait in self._under_way:
            wait()
        for file in (self._rows, *self._beside.values()):
            file.close()
        paths = sorted(p for p in self.root.rglob("*") if p.is_file())
        files = tuple(in_order(self._entry, paths, min(8, len(paths))))
        seconds = round(time.monotonic() - self._started, 3)
        staging = self.root.relative_to(self._folder.path).as_posix()
        receipt = Receipt(self._index, staging, files, self._rows.rows, self._reasons, seconds)
        won = self._folder.files.writer().commit(self.root, receipt)
        shutil.rmtree(self.root, ignore_errors=True)
        return won

    def _entry(self, path: Path) -> FileEntry:
        """What the receipt says of a file that is safe on disk."""
        with open(path, "rb") as handle:
            # Before the receipt is written: after a power loss it would name files whose content never reached the
            # disk.
            os.fsync(handle.fileno())
        return FileEntry(path.relative_to(self.root).as_posix(), path.stat().st_size, self.sha256(path))

    def abandon(self) -> None:
        """Throw the staged files away; but where the receipt stands, the shard is committed, and is given its place."""
        try:
            # Whoever still writes would write into a folder that is being deleted.
            for wait in self._under_way:
                with suppress(Exception):
                    wait()
            for file in (self._rows, *self._beside.values()):
                if file is not None:
                    file.abandon()
        finally:
            # Ctrl-C may come between the receipt and the last rename: then it is ours, and committed.
            receipt = self._folder.receipt(self._index)
            if receipt is not None and self._folder.path / receipt.staging == self.root:
                self._folder.files.writer().finish(receipt)
            shutil.rmtree(self.root, ignore_errors=True)


@contextmanager
def shard_lock(folder: RunFolder, index: int, wait: bool) -> Iterator[bool]:
    """Hold a shard for this process; yields False when another process has it and `wait` is off.

    Only saves work: the receipt alone decides who made a shard, also where locks do nothing.
    """
    # flock goes with the open file: a killed process leaves no lock behind. (POSIX locks, `lockf`, would be lost as
    # soon as any handle of the same file is closed.)
    with open(inside(folder.path, f"staging/{index:05d}.lock"), "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def scratch_folder(folder: RunFolder, index: int) -> Path:
    """Where a long shard keeps what it wants to find again after a kill."""
    path = inside(folder.path, f"staging/{index:05d}.scratch")
    path.mkdir(parents=True, exist_ok=True)
    return path
