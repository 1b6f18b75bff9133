"""Rows that are finished once their record is made, all but their images: kept as columns, made only once.

They go to a nameless file as Arrow batches, so that memory stays flat, and are mapped when shards take them. A cache
like any other: where the disk has no room, rows are made again from their source.
"""

from __future__ import annotations

import contextlib
import mmap
import operator
import tempfile
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa

from schemas.arrow import arrow_schema, from_record
from schemas.columns import column
from schemas.prompts import PromptRow
from schemas.tables import PROMPTS
from stages.core.cache import cache_root

BATCH_ROWS = 4096
"""Rows as Python objects at a time."""
PART_BYTES = 32 << 20
"""Columns at a time, before they go to the file: a shard looks into every part."""


class KeptRows:
    """The finished rows of one reading of a source, in its order."""

    def __init__(self) -> None:
        self._schema = arrow_schema(PROMPTS).remove_metadata()
        self._rows: list[PromptRow] = []
        self._keys: list[str] = []
        self._tables: list[pa.Table] = []
        self._bytes = 0
        self.number = 0
        """How many there are: what the next one's number will be."""
        self._file: IO[bytes] | None = None
        self._stream: Any = None
        self._parts: list[pa.Table] | None = None
        self._lost = False

    def keep(self, row: PromptRow, key: str) -> int:
        """Keep a row that has all but its images and its id, which is `key`; its number here."""
        self._rows.append(row)
        self._keys.append(key)
        self.number += 1
        if len(self._rows) >= BATCH_ROWS:
            self._as_columns()
        return self.number - 1

    def keep_columns(self, rows: pa.Table) -> None:
        """Keep rows that have all but their images, in a table without metadata."""
        if self._rows:
            self._as_columns()
        self.number += rows.num_rows
        self._put(rows)

    def is_there(self) -> bool:
        """Whether the rows can be taken; not where there was no room for them. None can be added then."""
        self._finished()
        return not self._lost

    def take(self, numbers: Sequence[int]) -> pa.Table:
        """These rows, in the order in which they are named."""
        parts = self._finished()
        starts = np.cumsum([0, *(part.num_rows for part in parts)])
        return gathered(parts, starts, np.asarray(numbers))

    def row(self, number: int) -> PromptRow:
        """One of the rows, as an object."""
        row: PromptRow = from_record(PromptRow, self.take([number]).to_pylist()[0])
        return row

    def _as_columns(self) -> None:
        fields = {f.name: list(map(operator.attrgetter(f.name), self._rows)) for f in self._schema}
        fields["id"] = self._keys
        columns = [column(fields[field.name], field.type) for field in self._schema]
        self._rows, self._keys = [], []
        self._put(pa.Table.from_arrays(columns, schema=self._schema))

    def _put(self, rows: pa.Table) -> None:
        self._tables.append(rows)
        self._bytes += rows.nbytes
        if self._bytes >= PART_BYTES:
            self._write()

    def _write(self) -> None:
        part = pa.concat_tables(self._tables).combine_chunks()
        self._tables, self._bytes = [], 0
        try:
            if self._stream is None:
                self._file = _nameless()
                self._stream = pa.ipc.new_file(self._file, self._schema)
            self._stream.write_table(part)
        except OSError:
            self._lost = True

    def _finished(self) -> list[pa.Table]:
        """All rows as tables, those that are on disk mapped."""
        if self._parts is None:
            if self._rows:
                self._as_columns()
            rest = [pa.concat_tables(self._tables).combine_chunks()] if self._tables else []
            self._tables = []
            self._parts = [*(self._mapped() if self._stream is not None and not self._lost else []), *rest]
        return self._parts

    def _mapped(self) -> list[pa.Table]:
        assert self._file is not None, "there is a stream"
        try:
            self._stream.close()
            self._file.flush()
        except OSError:
            self._lost = True
            return []
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        reader = pa.ipc.open_file(pa.py_buffer(mapped))
        return [pa.Table.from_batches([reader.get_batch(n)]) for n in range(reader.num_record_batches)]


def _nameless() -> IO[bytes]:
    """A file without a name, which is gone with this process; OSError where there is no room for one."""
    with contextlib.suppress(OSError):
        cache_root().mkdir(parents=True, exist_ok=True)
        # The user's cache is on a disk; the system's folder for such files may be memory.
        return tempfile.TemporaryFile(dir=cache_root())
    return tempfile.TemporaryFile()


def gathered(parts: list[pa.Table], starts: np.ndarray[Any, Any], chosen: np.ndarray[Any, Any]) -> pa.Table:
    """The chosen rows of all parts, in the order in which they are named; `starts` is where each part begins."""
    found, came = [], []
    owners = np.searchsorted(starts, chosen, side="right") - 1
    for owner in np.unique(owners).tolist():
        here = np.flatnonzero(owners == owner)
        found.append(parts[owner].take(column((chosen[here] - starts[owner]).tolist(), pa.int64())))
        came.append(here)
    back = np.argsort(np.concatenate(came))
    return pa.concat_tables(found).combine_chunks().take(column(back.tolist(), pa.int64()))
