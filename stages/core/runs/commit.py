"""Run folders, write side: stage files, create the receipt, rename. The receipt is the commit."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.rejected import RejectedRow
from schemas.tables import REJECTED, Table
from stages.core.errors import CosmoError
from stages.core.parallel_map import in_order
from stages.core.runs.folder import RunFolder, place
from stages.core.runs.shards import ShardFile, file_sha256


class StagedShard:
    """The ShardWriter of the runner: everything of one shard, in a staging folder until it is committed."""

    def __init__(self, folder: RunFolder, stage: str, table: Table, index: int) -> None:
        self._folder, self._stage, self._index = folder, stage, index
        self.root = folder.path / "staging" / f"{index:05d}.{uuid.uuid4().hex[:8]}"
        self._name = f"{index:05d}.parquet"
        (self.root / "shards").mkdir(parents=True)
        self._rows = ShardFile(self.root / "shards" / self._name, table)
        self._rejected: ShardFile | None = None
        self._reasons: dict[str, int] = {}
        self._digests: dict[Path, str] = {}
        self._started = time.monotonic()

    def row(self, row: Any) -> None:
        """One output row."""
        self._rows.add(row)

    def reject(self, source: str, ref: str, reason: str, detail: str) -> None:
        """One sample left out, with its reason."""
        self.keep_rejected(RejectedRow(stage=self._stage, source=source, ref=ref, reason=reason, detail=detail))

    def keep_rejected(self, row: RejectedRow) -> None:
        """A rejected row as it is."""
        if self._rejected is None:
            (self.root / "rejected").mkdir()
            self._rejected = ShardFile(self.root / "rejected" / self._name, REJECTED)
        self._rejected.add(row)
        self._reasons[row.reason] = self._reasons.get(row.reason, 0) + 1

    def artifact(self, name: str) -> Path:
        """A staging path that is committed with the shard as `<run>/<name>`."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def sha256(self, path: Path) -> str:
        """The digest of a staged file that is finished; it is computed once."""
        if path not in self._digests:
            self._digests[path] = file_sha256(path)
        return self._digests[path]

    def commit(self) -> bool:
        """Publish the shard. False when another process was first; then ours is deleted."""
        self._rows.close()
        if self._rejected is not None:
            self._rejected.close()
        paths = sorted(p for p in self.root.rglob("*") if p.is_file())
        files = list(in_order(self._entry, paths, min(8, len(paths))))
        receipt = {
            "index": self._index,
            "staging": self.root.relative_to(self._folder.path).as_posix(),
            "files": files,
            "rows": self._rows.rows,
            "rejected": self._reasons,
            "seconds": round(time.monotonic() - self._started, 3),
        }
        remote = self._folder.remote
        won = remote.commit(self.root, receipt) if remote else _create_receipt(self._folder, self._index, receipt)
        if not won:
            self.abandon()
            return False
        for entry in files:
            place(self.root / entry["path"], self._folder.path / entry["path"])
        shutil.rmtree(self.root, ignore_errors=True)
        return True

    def _entry(self, path: Path) -> dict[str, Any]:
        """What the receipt says of a file that is safe on disk."""
        _fsync(path)
        name = path.relative_to(self.root).as_posix()
        return {"path": name, "bytes": path.stat().st_size, "sha256": self.sha256(path)}

    def abandon(self) -> None:
        """Throw the staged files away."""
        self._rows.abandon()
        if self._rejected is not None:
            self._rejected.abandon()
        shutil.rmtree(self.root, ignore_errors=True)


def _fsync(path: Path) -> None:
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


def _create_receipt(folder: RunFolder, index: int, receipt: dict[str, Any]) -> bool:
    """Create the receipt whole, only where there is none: written aside, then hard-linked to its name."""
    final = folder.path / "receipts" / f"{index:05d}.json"
    aside = folder.path / "staging" / f"receipt-{uuid.uuid4().hex[:8]}"
    with open(aside, "w", encoding="utf-8") as handle:
        json.dump(receipt, handle, indent=1)
        handle.flush()
        os.fsync(handle.fileno())
    try:
        os.link(aside, final)
    except FileExistsError:
        return False
    finally:
        aside.unlink()
    return True


def drop_broken(folder: RunFolder, index: int) -> None:
    """Forget a shard whose receipt is there and whose files are not whole, so that it is made again."""
    if folder.remote is not None and folder.receipt(index) is not None:
        folder.remote.forget(index)
    receipt = folder.path / "receipts" / f"{index:05d}.json"
    if receipt.is_file():
        receipt.unlink()
    for name in ("shards", "rejected"):
        (folder.path / name / f"{index:05d}.parquet").unlink(missing_ok=True)


@contextmanager
def shard_lock(folder: RunFolder, index: int, wait: bool) -> Iterator[bool]:
    """Hold a shard for this process; yields False when another process has it and `wait` is off.

    Only saves work: the receipt alone decides who made a shard, also where locks do nothing.
    """
    with open(folder.path / "staging" / f"{index:05d}.lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def scratch_folder(folder: RunFolder, index: int) -> Path:
    """Where a long shard keeps what it wants to find again after a kill."""
    path = folder.path / "staging" / f"{index:05d}.scratch"
    path.mkdir(parents=True, exist_ok=True)
    return path


def clean_staging(folder: RunFolder) -> None:
    """Remove what killed processes left behind, once every shard is committed."""
    if folder.remote is not None:
        folder.remote.clean()
    for path in (folder.path / "staging").iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """The run folder's skeleton; CosmoError with the system's reason when it can't be made."""
    try:
        for name in ("shards", "receipts", "staging", "logs"):
            (path / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CosmoError(
            f"can't write to {path}: {error.strerror}", "choose another place with --runs FOLDER"
        ) from None
