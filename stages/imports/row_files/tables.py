"""Rows of tables: CSV and TSV, Parquet, and Excel where its reader is installed."""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import BadSample, InputError, UnavailableError, first_line
from stages.imports.row_files import base
from stages.imports.row_files.base import At, FoundRow, Row, RowFile, changed

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 256
_BLOCK = 32


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
            raise changed(self.path) from None
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
    csv.field_size_limit(base.MAX_ROW_BYTES)
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
            raise changed(self.path)
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
