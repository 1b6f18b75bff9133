"""Run folders, read side: a frozen manifest, committed shards, one receipt a shard."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.identity import digest
from schemas.tables import Table
from stages.core.errors import InputError
from stages.core.storage.location import is_url, locate

if TYPE_CHECKING:
    import pyarrow as pa

    from stages.core.storage.remote_run import RemoteRun


class RunFolder:
    """One stage's output: `manifest.json`, `config.json`, `shards/`, `receipts/`, and artifacts.

    A bare Parquet file, or a folder of them, is read as a complete run without lineage, so that a shard
    shipped on its own is still good input. A run in a bucket is a RemoteFolder: the same, with its files fetched into
    `path` when they are asked for.
    """

    remote: RemoteRun | None = None

    def __init__(self, path: Path, manifest: dict[str, Any], loose: list[Path] | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self._loose = loose
        self._verified: set[Path] = set()
        self._listed: list[str] | None = None
        self._paths: list[Path] = []

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run at a path or URL; InputError when there is none."""
        if (located := locate(path)) is not None:
            from stages.core.storage.remote_folder import open_remote

            return open_remote(*located)
        path = Path(path)
        if (path / "manifest.json").is_file():
            return cls(path, read_json(path / "manifest.json"))
        if path.is_file() and path.suffix == ".parquet":
            return cls._loose_run(path, [path])
        if path.is_dir() and (found := sorted(path.glob("*.parquet"))):
            return cls._loose_run(path, found)
        if not path.exists():
            raise InputError(f"no such run folder or shard: {path}", "check the path, or run the stage before this one")
        raise InputError(f"{path} is neither a run folder nor Parquet", "give a folder that a cosmo stage printed")

    @classmethod
    def find(cls, path: Path) -> RunFolder | None:
        """The run at a path or URL that has a manifest, or None."""
        if (located := locate(path)) is not None:
            from stages.core.storage.remote_folder import RemoteFolder

            return RemoteFolder.find_remote(*located)
        return cls.open(path) if (path / "manifest.json").is_file() else None

    @classmethod
    def _loose_run(cls, path: Path, shards: list[Path]) -> RunFolder:
        from stages.core.runs.shards import file_sha256, table_name

        fingerprint = digest([file_sha256(p) for p in shards])
        table = table_name(shards[0])
        manifest: dict[str, Any] = {
            "stage": "files",
            "fingerprint": fingerprint,
            "table": table,
            "shards": [{} for _ in shards],
            "inputs": [],
            "provenance": {},
        }
        return cls(path, manifest, shards)

    @property
    def where(self) -> str:
        """What people and other commands call it: its path, or its URL."""
        return str(self.path)

    @property
    def stage(self) -> str:
        """The verb that made it; `files` for bare Parquet."""
        return str(self.manifest["stage"])

    @property
    def fingerprint(self) -> str:
        """What identifies its content: 64 hex digits."""
        return str(self.manifest["fingerprint"])

    @property
    def table(self) -> str | None:
        """The name of the table its shards hold."""
        return self.manifest.get("table")

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config it ran with; empty for bare Parquet."""
        path = self.path / "config.json"
        return read_json(path) if path.is_file() else {}

    @property
    def total(self) -> int:
        """How many shards are planned."""
        return len(self.manifest["shards"])

    def receipt(self, index: int) -> dict[str, Any] | None:
        """The receipt of a committed shard, or None. Finishes a commit that a death cut short."""
        path = self.path / "receipts" / f"{index:05d}.json"
        if self._loose is not None or not path.is_file():
            return None
        receipt = read_json(path)
        for entry in receipt["files"]:
            final, staged = self.path / entry["path"], self.path / receipt["staging"] / entry["path"]
            if not final.exists() and staged.exists():
                place(staged, final)
        return receipt

    def receipts(self) -> dict[int, dict[str, Any]]:
        """All receipts by shard index."""
        found = ((i, self.receipt(i)) for i in range(self.total))
        return {i: r for i, r in found if r is not None}

    def missing(self) -> list[int]:
        """Indices of shards that are not committed, or whose files are gone."""
        if self._loose is not None:
            return []
        return [i for i in range(self.total) if not self._whole(self.receipt(i))]

    def committed(self, index: int) -> bool:
        """True when a shard is committed and its files are there."""
        return self._whole(self.receipt(index))

    def _whole(self, receipt: dict[str, Any] | None) -> bool:
        if receipt is None:
            return False
        # A pruned artifact (an old policy's weights) is gone on purpose; its rows and digests stay.
        gone = set(receipt.get("pruned", ()))
        return all(
            e["path"].split("/", 1)[0] in gone
            or ((f := self.path / e["path"]).is_file() and f.stat().st_size == e["bytes"])
            for e in receipt["files"]
        )

    @property
    def complete(self) -> bool:
        """True when every planned shard is committed and its files are there."""
        return not self.missing()

    def shard_paths(self) -> list[Path]:
        """Committed shards in order, their content checked against their receipts."""
        if self._loose is not None:
            return self._loose
        # A stage asks for every shard that it makes; only another receipt changes the answer.
        names = sorted(p.name for p in (self.path / "receipts").glob("*.json"))
        if names != self._listed:
            self._paths = [self._checked(i, receipt) for i, receipt in sorted(self.receipts().items())]
            self._listed = names
        return list(self._paths)

    def _shard_path(self, index: int) -> Path:
        if self._loose is not None:
            return self._loose[index]
        if (receipt := self.receipt(index)) is None:
            raise InputError(
                f"shard {self.where}/shards/{index:05d}.parquet is not committed",
                f"finish it: rerun the {self.stage} command",
            )
        return self._checked(index, receipt)

    def _checked(self, index: int, receipt: dict[str, Any]) -> Path:
        """Where a committed shard lies; its content is what the receipt says."""
        path = self.path / "shards" / f"{index:05d}.parquet"
        if path not in self._verified:
            self._have(next(e for e in receipt["files"] if e["path"] == f"shards/{path.name}"), receipt)
            self._verified.add(path)
        return path

    def _have(self, entry: dict[str, Any], receipt: dict[str, Any]) -> None:
        """Make sure that a committed file is there with the content that its receipt says; InputError otherwise."""
        path = self.path / entry["path"]
        if not path.is_file():
            raise InputError(f"shard {path} is missing", f"rerun the {self.stage} command to make it again")
        if _known_sha256(path) != entry["sha256"]:
            raise InputError(
                f"shard {path} is corrupt: its content does not match its receipt",
                f"delete the shard and rerun the {self.stage} command",
            )

    def rows(self, table: Table) -> Iterator[Any]:
        """All rows in order, read as the table's dataclass; a shard is looked at when its turn comes."""
        from stages.core.runs.shards import read_rows

        for index in range(len(self._loose)) if self._loose is not None else sorted(self.receipts()):
            yield from read_rows(self._shard_path(index), table)

    def shard_rows(self, table: Table, index: int) -> Iterator[Any]:
        """The rows of one shard."""
        from stages.core.runs.shards import read_rows

        return read_rows(self._shard_path(index), table)

    def rejected(self) -> Iterator[Any]:
        """All rejected rows in order."""
        from schemas.tables import REJECTED
        from stages.core.runs.shards import read_rows

        for path in sorted((self.path / "rejected").glob("*.parquet")):
            yield from read_rows(path, REJECTED)

    def columns(self, names: list[str]) -> pa.Table:
        """A projection over all shards; no image is read unless it is named."""
        import pyarrow as pa

        from stages.core.runs.shards import read_columns

        return pa.concat_tables([read_columns(p, names) for p in self.shard_paths()])

    def upstream(self) -> list[RunFolder]:
        """The runs it was made from, as far as they are still where they were."""
        found = (RunFolder.find(self.input_path(entry)) for entry in self.manifest["inputs"])
        return [folder for folder in found if folder is not None]

    def input_path(self, entry: dict[str, Any]) -> Path:
        """Where an input that the manifest names lies."""
        return Path(entry["path"]) if is_url(entry["path"]) else Path(os.path.normpath(self.path / entry["path"]))

    def artifact(self, name: str) -> Path:
        """Where a committed file or folder lies on this machine."""
        return self.path / name


_DIGESTS: dict[tuple[str, int, int, int], str] = {}


def _known_sha256(path: Path) -> str:
    """A file's digest, computed once a process while the file stays as it is: a recipe reads its prompts every turn."""
    from stages.core.runs.shards import file_sha256

    stat = path.stat()
    mark = (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if mark not in _DIGESTS:
        _DIGESTS[mark] = file_sha256(path)
    return _DIGESTS[mark]


def artifact(run: Path, name: str) -> Path:
    """Where a file or folder of a run lies on this machine; a run in a bucket has it fetched first."""
    return run / name if locate(run) is None else RunFolder.open(run).artifact(name)


def read_json(path: Path) -> Any:
    """Parsed JSON of one of our small files; InputError when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not valid JSON: {error}", "restore it, or delete its run folder and rerun"
        ) from None


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all: written beside, synced, renamed."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(beside, "w", encoding="utf-8") as handle:
        json.dump(value, handle, indent=1, ensure_ascii=False)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(beside, path)


def place(staged: Path, final: Path) -> None:
    """Rename into place; somebody else having just done so is fine."""
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(staged, final)
    except FileNotFoundError:
        if not final.exists():
            raise
