"""What lies beside a run's rows: its manifest and its receipts, as types.

They are checked once, when they are read, and never again: whoever has a Manifest or a Receipt may trust its paths. Run
folders come from strangers, so whatever is wrong in one is an InputError that names the file, the field and the value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from schemas.tables import TABLES
from stages.core.errors import InputError
from stages.core.file_digest import is_sha256

OWN_NAMES = frozenset({"manifest.json", "config.json", "report.json", "receipts", "staging", "logs"})
"""What the runner keeps in a run folder for itself: no stage may commit a file of that name."""

_HINT = "don't use this run folder unless you trust who made it; of your own: delete it and rerun its command"
_STAGING = re.compile(r"staging/[\w-][\w.-]*", re.ASCII)
_LONGEST_S = 1e12
_NAME = re.compile(r"[\w-]{1,64}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What a receipt says of one committed file."""

    path: str
    """Where in the run folder: relative, inside, `/` between the parts."""
    size: int
    """Bytes."""
    sha256: str
    """Of its content: 64 hex digits."""

    @property
    def top(self) -> str:
        """The first part of its path: `shards`, `rejected`, or an artifact's name."""
        return self.path.partition("/")[0]

    def below(self, name: str) -> bool:
        """True for the file of that name, and for those in the folder of that name."""
        return self.path == name or self.path.startswith(f"{name}/")


@dataclass(frozen=True, slots=True)
class Receipt:
    """THE COMMIT of a shard: what was made, and what it is."""

    index: int
    """Which shard of the plan."""
    staging: str
    """The folder below `staging/` where the files lay when the receipt was written."""
    files: tuple[FileEntry, ...]
    rows: int
    rejected: dict[str, int]
    """How many samples were left out, by reason."""
    seconds: float
    pruned: tuple[str, ...] = ()
    """Artifacts that were deleted on purpose since: old weights. Their entries stay."""

    @property
    def name(self) -> str:
        """`00003.parquet`: what its files in `shards/` and `rejected/` are called."""
        return f"{self.index:05d}.parquet"

    @property
    def shard(self) -> FileEntry:
        """The file with its rows."""
        return next(e for e in self.files if e.top == "shards")

    @property
    def kept(self) -> list[FileEntry]:
        """The files that have to be there: all but pruned ones."""
        return [e for e in self.files if e.top not in self.pruned]

    def staged(self, entry: FileEntry) -> str:
        """Where in the run folder a file lies between the receipt and its final name."""
        return f"{self.staging}/{entry.path}"

    def as_json(self) -> dict[str, Any]:
        """As it is written."""
        record: dict[str, Any] = {
            "index": self.index,
            "staging": self.staging,
            "files": [{"path": e.path, "bytes": e.size, "sha256": e.sha256} for e in self.files],
            "rows": self.rows,
            "rejected": self.rejected,
            "seconds": self.seconds,
        }
        return {**record, "pruned": list(self.pruned)} if self.pruned else record

    @classmethod
    def parse(cls, value: Any, where: str, index: int) -> Receipt:
        """The receipt of that shard as read from `where`; InputError for anything that is none."""
        fields = _Fields(value, where, "a receipt")
        if fields.count("index") != index:
            raise fields.wrong(f"it is the receipt of shard {fields.count('index')}, not of {index}")
        # `finish` renames files from there and deletes it, so a stranger's receipt must not lead anywhere else.
        if not _STAGING.fullmatch(staging := fields.text("staging")) or ".." in staging:
            raise fields.wrong(f"staging is {_shown(staging)}, not a folder below staging/")
        files = tuple(_entry(_Fields(e, where, "a receipt"), index) for e in fields.items("files"))
        paths = [e.path for e in files]
        if f"shards/{index:05d}.parquet" not in paths:
            raise fields.wrong("it does not name its shard")
        if len(set(paths)) != len(paths):
            raise fields.wrong("it names a file twice")
        rejected = fields.table("rejected")
        if any(not _is_count(n) for n in rejected.values()):
            raise fields.wrong("rejected is not a table of counts")
        pruned = fields.items("pruned") if "pruned" in fields.value else []
        if any(not isinstance(name, str) or name in ("shards", "rejected") for name in pruned):
            raise fields.wrong("pruned is not a list of artifacts")
        return cls(
            index, staging, files, fields.count("rows"), rejected, fields.number("seconds"), tuple(sorted(pruned))
        )


@dataclass(frozen=True, slots=True)
class InputRef:
    """A run that another was made from."""

    path: str
    """A URL, or a path as seen from the run folder."""
    fingerprint: str
    stage: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The frozen plan of a run."""

    stage: str
    fingerprint: str
    """64 hex digits: the digest of the key."""
    table: str | None
    """What its shards hold; None for bare Parquet that is not ours."""
    shards: list[dict[str, Any]]
    """One work description a shard."""
    table_version: int = 0
    key: dict[str, Any] = field(default_factory=dict)
    """Everything that can change rows; empty for bare Parquet."""
    inputs: tuple[InputRef, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    """Worth recording and no part of identity: versions, counts, the run's name."""

    def as_json(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "table": self.table,
            "table_version": self.table_version,
            "key": self.key,
            "shards": self.shards,
            "inputs": [{"path": i.path, "fingerprint": i.fingerprint, "stage": i.stage} for i in self.inputs],
            "provenance": self.provenance,
        }

    @classmethod
    def parse(cls, value: Any, where: str) -> Manifest:
        """The manifest as read from `where`; InputError for anything that is none."""
        fields = _Fields(value, where, "a manifest")
        shards = fields.items("shards")
        if any(not isinstance(shard, dict) for shard in shards):
            raise fields.wrong("shards is not a list of tables")
        inputs = [_Fields(i, where, "a manifest") for i in fields.items("inputs")]
        manifest = cls(
            fields.name("stage"),
            fields.name("fingerprint"),
            None if fields.value.get("table", "") is None else fields.text("table"),
            shards,
            fields.count("table_version", 0),
            fields.table("key", {}),
            tuple(InputRef(i.text("path"), i.name("fingerprint"), i.name("stage", "")) for i in inputs),
            fields.table("provenance", {}),
        )
        known = TABLES.get(manifest.table or "")
        if known is not None and manifest.table_version > known.version:
            raise InputError(
                f"{where} is of {manifest.table} rows in version {manifest.table_version},"
                f" and this cosmo knows version {known.version}",
                "read it with the version of cosmo that made it, or a newer one",
            )
        return manifest


def check_name(path: str) -> str | None:
    """What is wrong with the path of a file that a stage commits; None when nothing is."""
    if not path or _CONTROL.search(path):
        return "is no file's name"
    parts = path.split("/")
    if PurePosixPath(path).is_absolute() or any(part in ("", ".", "..") for part in parts):
        return "leads out of the run folder"
    if parts[0] in OWN_NAMES or parts[0].startswith("."):
        return "is not for a stage to commit"
    return None


def _entry(fields: _Fields, index: int) -> FileEntry:
    path = fields.text("path")
    if why := check_name(path):
        raise fields.wrong(f"the path {_shown(path)} {why}")
    if path.partition("/")[0] in ("shards", "rejected") and path.partition("/")[2] != f"{index:05d}.parquet":
        raise fields.wrong(f"the path {_shown(path)} is not of shard {index}")
    return FileEntry(path, fields.count("bytes"), fields.digest("sha256"))


class _Fields:
    """A JSON object whose fields are taken out by type; InputError for one that is missing or of another."""

    def __init__(self, value: Any, where: str, what: str) -> None:
        self.value, self._where, self._what = value, where, what
        if not isinstance(value, dict):
            raise self.wrong(f"{_shown(value)} is not a table")

    def wrong(self, why: str) -> InputError:
        """The error to raise."""
        return InputError(f"{self._where} is not {self._what} of ours: {why}", _HINT)

    def _typed(self, name: str, kind: type | tuple[type, ...], what: str) -> Any:
        if name not in self.value:
            raise self.wrong(f"it has no {name}")
        if not isinstance(self.value[name], kind) or isinstance(self.value[name], bool):
            raise self.wrong(f"{name} is {_shown(self.value[name])}, not {what}")
        return self.value[name]

    def text(self, name: str) -> str:
        """The field as a string."""
        return str(self._typed(name, str, "a text"))

    def table(self, name: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
        """The field as a table."""
        if default is not None and name not in self.value:
            return default
        return dict(self._typed(name, dict, "a table"))

    def items(self, name: str) -> list[Any]:
        """The field as a list."""
        return list(self._typed(name, list, "a list"))

    def count(self, name: str, default: int | None = None) -> int:
        """The field as a whole number of at least 0."""
        if default is not None and name not in self.value:
            return default
        if not _is_count(value := self._typed(name, int, "a count")):
            raise self.wrong(f"{name} is {_shown(value)}, not a count")
        return int(value)

    def number(self, name: str) -> float:
        """The field as a finite number of at least 0: seconds."""
        value = self._typed(name, (int, float), "a number")
        # Python's whole numbers may be too large for a float.
        # JSON as Python reads it may also hold NaN and Infinity: no comparison with NaN is true.
        if not 0 <= value < _LONGEST_S:
            raise self.wrong(f"{name} is {_shown(value)}, not a number of at least 0")
        return float(value)

    def digest(self, name: str) -> str:
        """The field as a sha256 in hex."""
        if not is_sha256(value := self.text(name)):
            raise self.wrong(f"{name} is {_shown(value)}, not 64 hex digits")
        return value

    def name(self, name: str, default: str | None = None) -> str:
        """The field as a verb or a fingerprint: letters, digits, `_` and `-`."""
        if default is not None and name not in self.value:
            return default
        if not _NAME.fullmatch(value := self.text(name)):
            raise self.wrong(f"{name} is {_shown(value)}, not a name")
        return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _shown(value: Any) -> str:
    """A value for an error message: one short line, whatever is in it."""
    text = value if isinstance(value, str) else type(value).__name__ if isinstance(value, dict | list) else str(value)
    # A terminal obeys escape codes, and this is what a file of somebody else holds.
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")
