"""Files of rows: each row known by where it lies, so that a shard reads its own again and nothing else.

One class a kind of file. `rows` goes through all of them once, in order; `row` reads one again. What is wrong with one
row is a BadSample in its place; a file that can't be read as a whole is an InputError.
"""

from __future__ import annotations

import csv
import json
import zipfile
import zlib
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import BadSample, InputError, UnavailableError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROW_BYTES = 64 << 20
"""One row, images in it included."""
MAX_JSON_BYTES = 1 << 30
"""A file that has to be in memory as a whole."""
_BATCH = 256
_BLOCK = 32
Row = dict[str, Any]
At = int | str
"""Where a row lies in its file: a byte offset, a number, a name."""


@dataclass(frozen=True, slots=True)
class FoundRow:
    """One row of a file."""

    ref: str
    """For people: `file.jsonl line 3`. No machine paths."""
    at: At
    row: Row | BadSample


class RowFile(ABC):
    """A file of rows. `head` is what it says of all of them (inspect's header), known once `rows` has begun."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head: Row = {}

    @abstractmethod
    def rows(self) -> Iterator[FoundRow]:
        """Every row in order."""

    @abstractmethod
    def row(self, at: At) -> Row:
        """The row at a place that `rows` gave; BadSample, or InputError where the file is another by now."""


class JsonLines(RowFile):
    """One JSON object a line; a place is the line's offset."""

    def rows(self) -> Iterator[FoundRow]:
        """Lines that are not blank. One beyond the limit is passed over without being read whole."""
        number, offset = 0, 0
        with open(self.path, "rb") as handle:
            while raw := handle.readline(MAX_ROW_BYTES + 1):
                number += 1
                begin, offset = offset, offset + len(raw)
                ref = f"{self.path.name} line {number}"
                if len(raw) > MAX_ROW_BYTES:
                    while raw and not raw.endswith(b"\n"):
                        raw = handle.readline(MAX_ROW_BYTES)
                        offset += len(raw)
                    yield FoundRow(ref, begin, _too_large(ref))
                elif raw.strip():
                    yield FoundRow(ref, begin, _attempt(raw))

    def row(self, at: At) -> Row:
        """The line that begins there."""
        with open(self.path, "rb") as handle:
            handle.seek(int(at))
            return json_object(handle.readline(MAX_ROW_BYTES + 1))


class DelimitedTable(RowFile):
    """CSV, or TSV by its suffix; a place is the offset of the row's first line."""

    def rows(self) -> Iterator[FoundRow]:
        """Rows under the first line's names; quoted fields may go over several lines."""
        lines = _Lines(self.path)
        reader = _csv_reader(self.path, lines)
        names = self._names()
        next(reader, None)
        at, number = lines.offset, reader.line_num + 1
        try:
            for values in reader:
                if values:
                    yield FoundRow(f"{self.path.name} line {number}", at, _named(names, values))
                at, number = lines.offset, reader.line_num + 1
        # A field beyond the limit is most often an unclosed quote, which takes in the rest of the file.
        except (csv.Error, UnicodeError) as error:
            raise InputError(
                f"{self.path} is no table in UTF-8 after line {number}: {error}", "save it as UTF-8, quotes closed"
            ) from None

    def row(self, at: At) -> Row:
        """The row whose first line begins there."""
        try:
            found = _named(self._names(), next(_csv_reader(self.path, _Lines(self.path, int(at)))))
        except (csv.Error, UnicodeError, StopIteration):
            raise _changed(self.path) from None
        if isinstance(found, BadSample):
            raise found
        return found

    def _names(self) -> tuple[str, ...]:
        return _table_names(self.path, self.path.stat().st_mtime_ns)


class _Lines:
    """A file's lines as text, and the offset of the next one. (A text file can't `tell` while it is iterated.)"""

    def __init__(self, path: Path, at: int = 0) -> None:
        self._handle = open(path, "rb")  # noqa: SIM115  # closed when the iterator is dropped
        self._handle.seek(at)
        self.offset = at

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._handle.readline()
        if not raw:
            self._handle.close()
            raise StopIteration
        text = raw.decode("utf-8-sig" if self.offset == 0 else "utf-8")
        self.offset += len(raw)
        return text


def _csv_reader(path: Path, lines: Iterator[str]) -> Any:
    # For the whole process: the default of 131,072 characters is less than an image in base64.
    csv.field_size_limit(MAX_ROW_BYTES)
    return csv.reader(lines, delimiter="\t" if path.suffix == ".tsv" else ",")


@lru_cache(maxsize=16)
def _table_names(path: Path, mtime_ns: int) -> tuple[str, ...]:
    try:
        return tuple(name.strip() for name in next(_csv_reader(path, _Lines(path)), ()))
    except (csv.Error, UnicodeError) as error:
        raise InputError(f"{path} is no table in UTF-8: {error}", "save it as UTF-8") from None


def _named(names: tuple[str, ...], values: list[str]) -> Row | BadSample:
    if len(values) != len(names):
        return BadSample("malformed", f"{len(values)} fields under {len(names)} names")
    # An empty field says nothing: there is no other way to leave one out.
    return {name: value for name, value in zip(names, values, strict=True) if value != ""}


class WholeJson(RowFile):
    """One JSON document: a list of objects, an object that holds one, or an object of rows by id."""

    def rows(self) -> Iterator[FoundRow]:
        """The rows, wherever in the document they are; a place is a number."""
        found, head = _json_rows(self.path, self.path.stat().st_mtime_ns)
        self.head = head
        for n, row in enumerate(found):
            fits = isinstance(row, dict)
            wrong = None if fits else BadSample("malformed", f"a row must be an object, not a {type(row).__name__}")
            yield FoundRow(f"{self.path.name} row {n}", n, wrong or row)

    def row(self, at: At) -> Row:
        """The row of that number."""
        found, self.head = _json_rows(self.path, self.path.stat().st_mtime_ns)
        if int(at) >= len(found):
            raise _changed(self.path)
        return dict(found[int(at)])


@lru_cache(maxsize=1)
def _json_rows(path: Path, mtime_ns: int) -> tuple[list[Any], Row]:
    """(rows, what stands beside them); `mtime_ns` is there so that a changed file is read anew."""
    if (size := path.stat().st_size) > MAX_JSON_BYTES:
        raise InputError(f"{path} has {size} bytes, and {MAX_JSON_BYTES} are read at most", "save it as JSON lines")
    try:
        value = _json(path.read_bytes())
    except BadSample as bad:
        raise InputError(f"{path} is no JSON document: {bad.detail}", "JSON lines are called .jsonl") from None
    if isinstance(value, list):
        return value, {}
    if isinstance(value, dict):
        lists = [name for name, v in value.items() if isinstance(v, list) and v and isinstance(v[0], dict)]
        if len(lists) == 1 or "samples" in lists:
            name = "samples" if "samples" in lists else lists[0]
            return value[name], {k: v for k, v in value.items() if k != name}
        if value and not lists and all(isinstance(v, dict) for v in value.values()):
            return [{"id": name, **row} for name, row in value.items()], {}
        if value and all(isinstance(v, str) for v in value.values()):
            return [{"id": name, "completion": text} for name, text in value.items()], {}
    raise InputError(f"{path} holds no list of rows", "a list of objects, or one object of them by id, is read")


class ParquetTable(RowFile):
    """Rows of a Parquet file; a place is a row's number in the whole file."""

    def rows(self) -> Iterator[FoundRow]:
        """All rows, some hundred in memory at a time."""
        number = 0
        with _parquet(self.path) as file:
            for batch in _checked(file, self.path):
                for row in batch.to_pylist():
                    yield FoundRow(f"{self.path.name} row {number}", number, row)
                    number += 1

    def row(self, at: At) -> Row:
        """The row of that number; the last row group read stays in memory."""
        mtime = self.path.stat().st_mtime_ns
        starts = _group_starts(self.path, mtime)
        group = bisect_right(starts, int(at)) - 1
        if group == len(starts) - 1:
            raise _changed(self.path)
        block, row = divmod(int(at) - starts[group], _BLOCK)
        return _rows_of_block(self.path, mtime, group, block)[row]


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} can't be read as Parquet: {first_line(error)}", "copy it again") from None


def _checked(file: Any, path: Path) -> Iterator[Any]:
    import pyarrow as pa

    try:
        yield from file.iter_batches(_BATCH)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is corrupt: {first_line(error)}", "copy it again") from None


@lru_cache(maxsize=16)
def _group_starts(path: Path, mtime_ns: int) -> list[int]:
    """The number of each row group's first row, and of the row after the last."""
    with _parquet(path) as file:
        sizes = (file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
        return list(accumulate(sizes, initial=0))


@lru_cache(maxsize=2)
def _rows_of_block(path: Path, mtime_ns: int, group: int, block: int) -> list[Row]:
    """Some rows of a group as Python values: rows of a shard lie close to each other, and one by one is slow."""
    found: list[Row] = _row_group(path, mtime_ns, group).slice(block * _BLOCK, _BLOCK).to_pylist()
    return found


# One only: with images in it, it may be hundreds of megabytes.
@lru_cache(maxsize=1)
def _row_group(path: Path, mtime_ns: int, group: int) -> pa.Table:
    with _parquet(path) as file:
        return file.read_row_group(group)


class Workbook(RowFile):
    """The first sheet of an Excel file, which VLMEvalKit writes; a place is a number."""

    def rows(self) -> Iterator[FoundRow]:
        """Rows under the names of the first one."""
        for n, row in enumerate(_sheet(self.path, self.path.stat().st_mtime_ns)):
            yield FoundRow(f"{self.path.name} row {n + 2}", n, row)

    def row(self, at: At) -> Row:
        """The row of that number."""
        return _sheet(self.path, self.path.stat().st_mtime_ns)[int(at)]


@lru_cache(maxsize=1)
def _sheet(path: Path, mtime_ns: int) -> list[Row]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise UnavailableError(f"{path} is an Excel file", "pip install openpyxl, or save it as TSV") from None
    try:
        lines = load_workbook(path, read_only=True, data_only=True).worksheets[0].iter_rows(values_only=True)
    # zipfile.BadZipFile, KeyError for missing parts, and openpyxl's own for what it does not know.
    except Exception as error:
        raise InputError(f"{path} can't be read as an Excel file: {first_line(error)}", "save it as TSV") from None
    names = [str(name) if name is not None else "" for name in next(lines, ())]
    return [{n: v for n, v in zip(names, line) if n and v is not None} for line in lines]


class EvalLog(RowFile):
    """inspect's `.eval`: a zip with a JSON file a sample; a place is the member's name."""

    def rows(self) -> Iterator[FoundRow]:
        """Samples by id and epoch."""
        members = self._archive.namelist()
        if "header.json" in members:
            # What it says is the model's name, which samples have, too.
            with suppress(BadSample):
                self.head = json_object(self._read("header.json"))
        names = [n for n in members if n.startswith("samples/") and n.endswith(".json")]
        if not names:
            raise InputError(f"{self.path} holds no samples", "inspect writes them at the end of an evaluation")
        # `ID_epoch_2.json`: as numbers, or a tenth epoch would come before the second.
        for name in sorted(names, key=_epoch_order):
            ref = f"{self.path.name} {name.removeprefix('samples/')}"
            try:
                yield FoundRow(ref, name, json_object(self._read(name)))
            except BadSample as bad:
                yield FoundRow(ref, name, bad)

    def row(self, at: At) -> Row:
        """The sample in that member."""
        return json_object(self._read(str(at)))

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        # Open for the whole run: each opening reads the names of all members.
        try:
            return zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{self.path} is no inspect log: {first_line(error)}", "copy it again") from None

    def _read(self, name: str) -> bytes:
        try:
            # A zip may hold terabytes of zeros in kilobytes, and say of it whatever it likes.
            with self._archive.open(name) as member:
                data = member.read(MAX_ROW_BYTES + 1)
        except NotImplementedError:
            hint = "inspect log convert --to json FILE.eval --output-dir FOLDER, and import that"
            raise InputError(f"{self.path} is compressed in a way that this Python can't read", hint) from None
        except (zipfile.BadZipFile, zlib.error, KeyError, OSError, EOFError, RuntimeError) as error:
            raise BadSample("malformed", f"{name} can't be read: {first_line(error)}") from None
        if len(data) > MAX_ROW_BYTES:
            raise _too_large(name)
        return data


def _epoch_order(name: str) -> tuple[str, int]:
    ident, _, epoch = name.removesuffix(".json").rpartition("_epoch_")
    return (ident, int(epoch)) if epoch.isdigit() else (name, 0)


_KINDS: dict[str, type[RowFile]] = {
    ".jsonl": JsonLines,
    ".json": WholeJson,
    ".csv": DelimitedTable,
    ".tsv": DelimitedTable,
    ".parquet": ParquetTable,
    ".eval": EvalLog,
    ".xlsx": Workbook,
}


def find_files(named: list[str]) -> list[Path]:
    """The files, those in folders sorted by name; InputError for one that is not there or of an unknown kind."""
    found: list[Path] = []
    for name in named:
        path = Path(name).expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and p.suffix in _KINDS)
            # lmms-eval and lm-eval put a summary, which is no row of anything, beside the samples.
            samples = [p for p in inside if "samples_" in p.name and p.suffix == ".jsonl"]
            if not inside:
                raise InputError(f"{path} holds no file of completions", f"files end in {', '.join(_KINDS)}")
            found += samples or inside
        elif not path.is_file():
            raise InputError(f"no such file or folder: {path}", "cosmo import FILE --as rollout")
        elif path.suffix not in _KINDS:
            raise InputError(f"{path} is of no kind that is read", f"files end in {', '.join(_KINDS)}")
        else:
            found.append(path)
    return found


def open_file(path: Path) -> RowFile:
    """A file of rows, by its suffix."""
    return _KINDS[path.suffix](path)


def json_object(raw: bytes) -> Row:
    """One JSON object; BadSample `malformed` says what is wrong."""
    value = _json(raw)
    if not isinstance(value, dict):
        raise BadSample("malformed", f"a row must be an object, not a {type(value).__name__}")
    return value


def _attempt(raw: bytes) -> Row | BadSample:
    try:
        return json_object(raw)
    except BadSample as bad:
        return bad


def _json(raw: bytes) -> Any:
    try:
        # `-sig` takes a byte order mark off. NaN stays: tools write it for scores that they could not make.
        value = json.loads(raw.decode("utf-8-sig"))
        if b"\\u" in raw:
            # Half a surrogate pair is legal JSON, and no text that can be stored.
            json.dumps(value, ensure_ascii=False).encode()
        return value
    # UnicodeError first: it and JSONDecodeError are ValueErrors. RecursionError: brackets some thousand deep.
    except UnicodeError as error:
        raise BadSample("malformed", f"not UTF-8: {first_line(error)}") from None
    except (ValueError, RecursionError) as error:
        raise BadSample("malformed", f"not JSON: {first_line(error)}") from None


def _too_large(name: str) -> BadSample:
    return BadSample("too_large", f"{name} has more than {MAX_ROW_BYTES} bytes")


def _changed(path: Path) -> InputError:
    return InputError(f"{path} changed while it was imported", "run the command again")
