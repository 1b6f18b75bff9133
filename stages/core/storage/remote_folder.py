"""A run in a bucket as a RunFolder: asked for a shard, it has it in the mirror first."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from schemas.tables import REJECTED
from stages.core.errors import InputError
from stages.core.runs.folder import RunFolder, read_json
from stages.core.storage.location import Place
from stages.core.storage.remote_run import RemoteRun

_CONFIG, _MANIFEST = "config.json", "manifest.json"


class RemoteFolder(RunFolder):
    """Manifest, config and receipts are mirrored when it is opened, shards and artifacts when they are asked for."""

    def __init__(self, remote: RemoteRun) -> None:
        remote.store.place.open_mirror()
        super().__init__(remote.mirror, read_json(remote.small(_MANIFEST)))
        self.remote = self._run = remote
        if _CONFIG in remote.listed:
            remote.small(_CONFIG)
        self._receipts: dict[int, dict[str, Any]] | None = None

    @classmethod
    def find_remote(cls, place: Place, name: str) -> RemoteFolder | None:
        """The run of that name, or None."""
        if not name:
            return None
        remote = RemoteRun(place, name)
        return cls(remote) if _MANIFEST in remote.look() else None

    @property
    def where(self) -> str:
        """Its URL."""
        return self._run.url

    def receipt(self, index: int) -> dict[str, Any] | None:
        """The receipt of a committed shard as of the last look, or None."""
        return self.receipts().get(index)

    def receipts(self) -> dict[int, dict[str, Any]]:
        """All receipts by shard index, as of the last look. Finishes commits that a death cut short."""
        if self._receipts is None:
            found = [read_json(path) for _, path in sorted(self._run.smalls("receipts").items())]
            self._receipts = {r["index"]: r for r in found}
            for receipt in found:
                self._run.settle(receipt)
        return self._receipts

    def missing(self) -> list[int]:
        """Indices of shards that are not committed, or whose files are gone: looks again."""
        self._run.look()
        self._receipts = None
        return super().missing()

    def committed(self, index: int) -> bool:
        """True when a shard is committed and its files are there; looks again."""
        return index not in self.missing()

    def _whole(self, receipt: dict[str, Any] | None) -> bool:
        return receipt is not None and self._run.there(receipt)

    def shard_paths(self) -> list[Path]:
        """Committed shards in order, fetched side by side."""
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(self._shard_path, sorted(self.receipts())))

    def _have(self, entry: dict[str, Any], receipt: dict[str, Any]) -> None:
        self._run.fetch(entry, receipt, self.stage)

    def artifact(self, name: str) -> Path:
        """Where a committed file or folder lies in the mirror, all of it fetched; nothing there when it has none."""
        for receipt in self.receipts().values():
            for entry in receipt["files"]:
                if entry["path"] == name or entry["path"].startswith(f"{name}/"):
                    self._run.fetch(entry, receipt, self.stage)
        return self.path / name

    def rejected(self) -> Iterator[Any]:
        """All rejected rows in order."""
        from stages.core.runs.shards import read_rows

        for _, receipt in sorted(self.receipts().items()):
            for entry in receipt["files"]:
                if entry["path"].startswith("rejected/"):
                    yield from read_rows(self._run.fetch(entry, receipt, self.stage), REJECTED)


def open_remote(place: Place, name: str) -> RemoteFolder:
    """The run of that name; InputError when there is none."""
    folder = RemoteFolder.find_remote(place, name)
    if folder is None:
        raise InputError(
            f"no such run folder: {place.url}/{name}".rstrip("/"), "check the URL, or run the stage before this one"
        )
    return folder


def remote_runs(url: Path) -> list[Path]:
    """Mirrors of the runs at a URL: the run itself, or those directly below it."""
    from stages.core.storage.location import locate, place_at
    from stages.core.storage.s3 import store_at

    located = locate(url)
    if located is not None and (folder := RemoteFolder.find_remote(*located)) is not None:
        return [folder.path]
    place = place_at(url)
    found = (RemoteFolder.find_remote(place, name) for name in store_at(place).folders())
    return [folder.path for folder in found if folder is not None]
