"""One run in a bucket: its objects, and how a shard gets there so that nothing is ever half there.

A bucket knows no rename. So a shard's files are uploaded below `staging/`, the receipt that names them is created if
there is none (THE COMMIT), then they are copied to their final names and the staged ones go. A death before the receipt
leaves files that nobody looks at; a death after it is finished by whoever looks next, and until then they are read from
where they are staged.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from stages.core.errors import InputError
from stages.core.runs.shards import file_sha256
from stages.core.storage.location import Place
from stages.core.storage.s3 import COPY_BYTES, Meta, Refused, store_at

# (path, sha256) of mirrored files whose content this process has checked.
_checked: set[tuple[Path, str]] = set()


class RemoteRun:
    """A run's objects and its mirror on this machine."""

    def __init__(self, place: Place, name: str) -> None:
        self.store = store_at(place)
        self.name = name
        self.mirror = place.mirror / name
        self.url = f"{place.url}/{name}"
        self.listed: dict[str, Meta] = {}
        self.own = False
        """Set by the runner for a run that it makes: then a commit cut short is finished whatever it takes."""

    def key(self, name: str) -> str:
        """The object of one of its files."""
        return f"{self.name}/{name}"

    def look(self) -> dict[str, Meta]:
        """What is there now, by name within the run."""
        self.listed = self.store.names(self.name)
        return self.listed

    # Reading

    def small(self, name: str) -> Path:
        """A manifest, config or receipt as listed, in the mirror; fetched when it is another than the mirrored one."""
        target, meta = self.mirror / name, self.listed[name]
        if target.is_file():
            stat = target.stat()
            if stat.st_size == meta.size and int(stat.st_mtime) == int(meta.modified):
                return target
        data = self.store.read(self.key(name))
        if data is None:
            raise InputError(f"{self.url}/{name} is gone", "somebody deleted it just now: run the same command again")
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        beside.write_bytes(data)
        os.utime(beside, (meta.modified, meta.modified))
        os.replace(beside, target)
        return target

    def smalls(self, folder: str) -> dict[str, Path]:
        """All listed files of a folder of small ones, fetched side by side."""
        names = [n for n in self.listed if n.startswith(f"{folder}/")]
        with ThreadPoolExecutor(16) as pool:
            return dict(zip(names, pool.map(self.small, names), strict=True))

    def fetch(self, entry: dict[str, Any], receipt: dict[str, Any], stage: str) -> Path:
        """A committed file in the mirror, its content checked; InputError when the store's is another."""
        target, sha256 = self.mirror / entry["path"], entry["sha256"]
        if (target, sha256) in _checked:
            return target
        if not _is(target, entry):
            self._download(entry, receipt, stage)
        _checked.add((target, sha256))
        return target

    def _download(self, entry: dict[str, Any], receipt: dict[str, Any], stage: str) -> None:
        """Written aside, going on where an earlier try was cut short; one process of this machine at a time."""
        target = self.mirror / entry["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{entry['sha256'][:12]}.part")
        with open(aside, "ab") as part:
            fcntl.flock(part, fcntl.LOCK_EX)
            if _is(target, entry):
                aside.unlink(missing_ok=True)
                return
            begun = part.tell() > 0
            self._receive(part, entry, receipt, stage)
            if begun and file_sha256(aside) != entry["sha256"]:
                part.truncate(0)
                self._receive(part, entry, receipt, stage)
            if file_sha256(aside) != entry["sha256"]:
                aside.unlink()
                raise InputError(
                    f"{self.url}/{entry['path']} is corrupt: its content does not match its receipt",
                    f"delete it there and rerun the {stage} command",
                )
            os.replace(aside, target)

    def _receive(self, part: IO[bytes], entry: dict[str, Any], receipt: dict[str, Any], stage: str) -> None:
        if part.tell() > entry["bytes"]:
            part.truncate(0)
        have = os.fstat(part.fileno()).st_size
        if have == entry["bytes"]:
            return
        # A commit may be finished under a reader's feet: then the file has just got its final name.
        for name in (entry["path"], f"{receipt['staging']}/{entry['path']}", entry["path"]):
            with contextlib.suppress(FileNotFoundError):
                for piece in self.store.stream(self.key(name), have):
                    part.write(piece)
                part.flush()
                os.fsync(part.fileno())
                return
        raise InputError(f"{self.url}/{entry['path']} is missing", f"rerun the {stage} command to make it again")

    def there(self, receipt: dict[str, Any]) -> bool:
        """True when every file of a receipt is there whole, at its final name or staged."""
        for entry in receipt["files"]:
            names = (entry["path"], f"{receipt['staging']}/{entry['path']}")
            listed = any(n in self.listed and self.listed[n].size == entry["bytes"] for n in names)
            # A listing of many pages is not of one moment, so it alone does not condemn a file.
            if not listed and not any(self._has(n, entry["bytes"]) for n in (*names, names[0])):
                return False
        return True

    def _has(self, name: str, size: int) -> bool:
        meta = self.store.stat(self.key(name))
        return meta is not None and meta.size == size

    def settle(self, receipt: dict[str, Any]) -> None:
        """Finish a commit that stopped after its receipt: final names, then no staged ones.

        Who only reads leaves alone what the store can't copy by itself, or may not be written.
        """
        staged = [n for n in self.listed if n.startswith(f"{receipt['staging']}/")]
        if not staged:
            return
        if not self.own and any(e["bytes"] > COPY_BYTES for e in receipt["files"]):
            return
        try:
            self._settle(receipt, [e for e in receipt["files"] if e["path"] not in self.listed])
        except Refused:
            if self.own:
                raise

    def _settle(self, receipt: dict[str, Any], files: list[dict[str, Any]]) -> None:
        root = receipt["staging"]
        for entry in files:
            # False: another process has finished it and tidied up.
            if not self.store.copy(self.key(f"{root}/{entry['path']}"), self.key(entry["path"]), entry["bytes"]):
                return
        self.store.delete(self.key(f"{root}/{e['path']}") for e in receipt["files"])

    # Writing

    def freeze(self, config: dict[str, Any], manifest: dict[str, Any]) -> None:
        """The plan, unless another machine has written it already."""
        self.store.create(self.key("config.json"), _json(config))
        self.store.create(self.key("manifest.json"), _json(manifest))

    def commit(self, root: Path, receipt: dict[str, Any]) -> bool:
        """Publish a shard's files from a local folder. False when another machine was first; then ours go again."""
        staged = [f"{receipt['staging']}/{e['path']}" for e in receipt["files"]]
        for entry, name in zip(receipt["files"], staged, strict=True):
            self.store.upload(root / entry["path"], self.key(name))
        if not self.store.create(self.key(f"receipts/{receipt['index']:05d}.json"), _json(receipt)):
            self.store.delete(self.key(name) for name in staged)
            return False
        self._settle(receipt, receipt["files"])
        return True

    def forget(self, index: int) -> None:
        """Drop a receipt whose files are gone, so that the shard is made again."""
        names = (f"receipts/{index:05d}.json", f"shards/{index:05d}.parquet", f"rejected/{index:05d}.parquet")
        self.store.delete(self.key(name) for name in names)

    def clean(self) -> None:
        """Remove what killed processes left behind, once every shard is committed."""
        self.store.delete(self.key(name) for name in self.look() if name.startswith("staging/"))

    def publish(self, name: str) -> None:
        """Put a small file of the mirror there."""
        self.store.write(self.key(name), (self.mirror / name).read_bytes())


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()


def _is(path: Path, entry: dict[str, Any]) -> bool:
    """True when a file is there with the content of the entry."""
    return path.is_file() and path.stat().st_size == entry["bytes"] and file_sha256(path) == entry["sha256"]
