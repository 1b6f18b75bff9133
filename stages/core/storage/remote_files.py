"""A run in a bucket, read: asked for a file, it has it in the mirror first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stages.core.atomic import read_json
from stages.core.errors import InputError
from stages.core.storage.base import RunFiles
from stages.core.storage.download import fetch
from stages.core.storage.location import BucketLocation, Location, locate, place_at
from stages.core.storage.records import FileEntry, Manifest, Receipt
from stages.core.storage.remote_run import RemoteRun
from stages.core.storage.remote_writer import RemoteWriter
from stages.core.storage.s3 import store_at

_CONFIG, _MANIFEST = "config.json", "manifest.json"
_FETCHES = 4


class RemoteFiles(RunFiles):
    """Manifest, config and receipts are mirrored when it is opened, shards and artifacts when they are asked for."""

    def __init__(self, location: BucketLocation, run: RemoteRun) -> None:
        # Before anything is put there: its mark tells a mirror from an ordinary folder.
        location.bucket_folder.open_mirror()
        super().__init__(location, Manifest.parse(read_json(run.small(_MANIFEST)), f"{run.url}/{_MANIFEST}"))
        self._run = run
        self._receipts: dict[int, Receipt] | None = None

    @classmethod
    def find(cls, location: BucketLocation) -> RemoteFiles | None:
        """The run at that location, or None where there is none."""
        if not location.name:
            return None
        run = RemoteRun(location.bucket_folder, location.name)
        return cls(location, run) if _MANIFEST in run.look() else None

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config; InputError when it is not a table."""
        found = read_json(self._run.small(_CONFIG)) if _CONFIG in self._run.listed else {}
        if not isinstance(found, dict):
            raise InputError(f"{self.location}/{_CONFIG} is not a config: it is not a table", "restore it, or rerun")
        return found

    def has_report(self) -> bool:
        """True when it was listed at the last look: no mirror needs it."""
        return "report.json" in self._run.listed

    def report(self) -> Any:
        """The report as it was listed at the last look; None where there is none."""
        return read_json(self._run.small("report.json")) if self.has_report() else None

    def look(self) -> None:
        """List the run's objects anew."""
        self._run.look()
        self._receipts = None

    def receipts(self) -> dict[int, Receipt]:
        """All receipts by shard index, as of the last look."""
        if self._receipts is None:
            # Those of planned shards: whatever else lies there is no receipt of this run.
            names = {f"receipts/{i:05d}.json": i for i in range(len(self.manifest.shards))}
            there = sorted(name for name in self._run.listed if name in names)
            parsed = zip(there, self._run.smalls(there), strict=True)
            self._receipts = {
                names[name]: Receipt.parse(read_json(path), f"{self.location}/{name}", names[name])
                for name, path in parsed
            }
        return self._receipts

    def whole(self, receipt: Receipt) -> bool:
        """True when every file of a receipt is there whole, at its final name or staged."""
        for entry in receipt.kept:
            names = (entry.path, receipt.staged(entry))
            listed = any(n in self._run.listed and self._run.listed[n].size == entry.size for n in names)
            # A listing of many pages is not of one moment, so it alone does not condemn a file.
            # The final name is asked for twice: the commit may be finished between the two questions.
            if not listed and not any(self._run.has(n, entry.size) for n in (*names, names[0])):
                return False
        return True

    def fetch(self, entry: FileEntry, receipt: Receipt) -> Path:
        """A committed file in the mirror."""
        return fetch(self._run, entry, receipt, self.manifest.stage)

    def all_shards(self) -> list[Path]:
        """Every committed shard in order, fetched side by side."""
        with ThreadPoolExecutor(_FETCHES) as pool:
            return list(pool.map(self.shard, self.indices()))

    def artifact(self, name: str) -> Path:
        """Where it lies in the mirror, all of it fetched."""
        for receipt in self.receipts().values():
            for entry in receipt.kept:
                if entry.below(name):
                    self.fetch(entry, receipt)
        return self.path / name

    def writer(self) -> RemoteWriter:
        """What may change the run."""
        return RemoteWriter(self._run)


def remote_runs(url: Path | str) -> list[Location]:
    """The run at a URL, or those directly below it, whatever is in their manifests."""
    whole = locate(url)
    if (
        isinstance(whole, BucketLocation)
        and whole.name
        and _MANIFEST in RemoteRun(whole.bucket_folder, whole.name).look()
    ):
        return [whole]
    place = place_at(url)
    names = store_at(place).folders()
    return [BucketLocation(place, name) for name in names if _MANIFEST in RemoteRun(place, name).look()]
