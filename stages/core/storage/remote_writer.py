"""A run in a bucket, written: how a shard gets there so that nothing is ever half there.

A bucket knows no rename. So a shard's files are uploaded below `staging/`, the receipt that names them is created if
there is none (THE COMMIT), then they are copied to their final names and the staged ones go. A death before the receipt
leaves files that nobody looks at; a death after it is finished when the run is made again, and until then they are read
from where they are staged.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.core.atomic import json_bytes, move_into_place
from stages.core.storage.base import RunWriter
from stages.core.storage.local import LocalWriter
from stages.core.storage.records import FileEntry, Manifest, Receipt
from stages.core.storage.remote_run import RemoteRun


class RemoteWriter(RunWriter):
    """What it does in the bucket, it does in the mirror, too: there this machine's next stage finds its input."""

    def __init__(self, run: RemoteRun) -> None:
        self._run, self._mirror = run, LocalWriter(run.mirror)

    def freeze(self, config: dict[str, Any], manifest: Manifest) -> None:
        """The plan, unless another machine has written it already."""
        self._create("config.json", config)
        self._create("manifest.json", manifest.as_json())

    def commit(self, root: Path, receipt: Receipt) -> bool:
        """Upload, create the receipt, copy. False when another machine was first; then ours go again."""
        for entry in receipt.files:
            self._run.store.upload(root / entry.path, self._run.key(receipt.staged(entry)))
        if not self._create(f"receipts/{receipt.index:05d}.json", receipt.as_json()):
            self._delete(receipt.staged(entry) for entry in receipt.files)
            return False
        self._move(receipt, receipt.files)
        for entry in receipt.files:
            move_into_place(root / entry.path, self._run.mirror / entry.path)
        return True

    def finish(self, receipt: Receipt) -> None:
        """Final names, then no staged ones, as far as the last look has seen staged ones."""
        if staged := [e for e in receipt.files if receipt.staged(e) in self._run.listed]:
            self._move(receipt, staged)

    def forget(self, index: int) -> None:
        """Delete the receipt first: without it nothing else counts."""
        self._delete([f"receipts/{index:05d}.json", f"shards/{index:05d}.parquet", f"rejected/{index:05d}.parquet"])
        self._mirror.forget(index)

    def mark(self, receipt: Receipt) -> None:
        """Write the receipt over the one that is there."""
        self._run.store.write(self._run.key(f"receipts/{receipt.index:05d}.json"), json_bytes(receipt.as_json()))

    def clean(self) -> None:
        """Delete what is staged."""
        self._delete(name for name in self._run.look() if name.startswith("staging/"))
        self._mirror.clean()

    def publish(self, name: str) -> None:
        """Put a small file of the mirror there."""
        self._run.store.write(self._run.key(name), (self._run.mirror / name).read_bytes())

    def _move(self, receipt: Receipt, files: Iterable[FileEntry]) -> None:
        run = self._run
        for entry in files:
            # False: another process has finished it and tidied up.
            if not run.store.copy(run.key(receipt.staged(entry)), run.key(entry.path), entry.size):
                return
        self._delete(receipt.staged(entry) for entry in receipt.files)

    def _create(self, name: str, value: Any) -> bool:
        return self._run.store.create(self._run.key(name), json_bytes(value))

    def _delete(self, names: Iterable[str]) -> None:
        self._run.store.delete(self._run.key(name) for name in names)
