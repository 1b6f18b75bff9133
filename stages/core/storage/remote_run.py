"""The objects of one run in a bucket: what is listed, and the small ones in the mirror."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stages.core.atomic import aside_of
from stages.core.errors import InputError
from stages.core.storage.location import BucketFolder
from stages.core.storage.s3 import Meta, store_at


class RemoteRun:
    """A run's objects by name within the run, as of the last look, and its mirror on this machine."""

    def __init__(self, place: BucketFolder, name: str) -> None:
        self.store = store_at(place)
        self.mirror = place.mirror / name
        self.url = f"{place.url}/{name}"
        self.listed: dict[str, Meta] = {}
        self._name = name

    def key(self, name: str) -> str:
        """The object of one of its files."""
        return f"{self._name}/{name}"

    def look(self) -> dict[str, Meta]:
        """What is there now, by name within the run."""
        self.listed = self.store.names(self._name)
        return self.listed

    def has(self, name: str, size: int) -> bool:
        """True when an object of that size is there. Asks: a listing of many pages is not of one moment."""
        meta = self.store.stat(self.key(name))
        return meta is not None and meta.size == size

    def small(self, name: str) -> Path:
        """A listed manifest, config or receipt in the mirror; fetched when it is another than the mirrored one."""
        target, meta = self.mirror / name, self.listed[name]
        if target.is_file():
            stat = target.stat()
            # Whole seconds: not every file system keeps the fraction that `os.utime` was given.
            if stat.st_size == meta.size and int(stat.st_mtime) == int(meta.modified):
                return target
        data = self.store.read(self.key(name))
        if data is None:
            raise InputError(f"{self.url}/{name} is gone", "somebody deleted it just now: run the same command again")
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = aside_of(target)
        beside.write_bytes(data)
        # The time is what tells next time that the object is still the same.
        os.utime(beside, (meta.modified, meta.modified))
        os.replace(beside, target)
        return target

    def smalls(self, names: list[str]) -> list[Path]:
        """Several listed small files, fetched side by side."""
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(self.small, names))
