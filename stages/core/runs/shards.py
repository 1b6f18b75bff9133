"""Shards on disk: Parquet written in bounded row groups, read as typed rows."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.arrow import RowError, arrow_schema, check_schema, hints, rows_from, to_table
from schemas.columns import column, integers
from schemas.tables import Table
from stages.core.errors import InputError, first_line
from stages.core.storage.unpacked import check_parquet

# Large row groups read fast, but a recipe draws its prompts from everywhere: who wants one row reads its row group.
ROW_GROUP_BYTES = 4 << 20
ROW_GROUP_ROWS = 2048
# Rows that are Python objects at a time, with their images.
READ_ROWS = 128
READ_BYTES = 8 << 20
_NUMBER = 4
"""Bytes of a token id or a log-prob."""
_Sizes = np.ndarray[Any, Any]
"""Bytes of each value. Shape (N,)."""


def row_bytes(row: Any) -> int:
    """About how much of a row is heavy: its images, its texts, and the ids and log-probs of its completions."""
    heavy = sum(len(image.bytes) for image in getattr(row, "images", ()))
    heavy += sum(_size(part.text) for message in getattr(row, "messages", ()) for part in message.content)
    heavy += _NUMBER * len(getattr(row, "prompt_token_ids", ()))
    completions = getattr(row, "completions", ())
    # A row of `eval` has a column of that name, too, which counts them.
    if isinstance(completions, int):
        return heavy
    return heavy + sum(_size(c.text) + _NUMBER * (len(c.token_ids) + len(c.logprobs)) for c in completions)


def _size(text: str | None) -> int:
    """Bytes of a text in UTF-8."""
    # A flag of the string says whether it is ASCII: nothing is encoded then.
    return len(text or "") if text is None or text.isascii() else len(text.encode(errors="replace"))


def rows_bytes(rows: pa.Table) -> list[int]:
    """`row_bytes` of each row of a table."""
    heavy = np.zeros(rows.num_rows, np.int64)
    names = rows.schema.names
    if "images" in names:
        heavy += _inside(rows.column("images"), lambda image: _binary(image.field("bytes")))
    if "messages" in names:
        heavy += _inside(
            rows.column("messages"), lambda m: _sums(m.field("content"), lambda p: _binary(p.field("text")))
        )
    if "prompt_token_ids" in names:
        heavy += _NUMBER * _inside(rows.column("prompt_token_ids"), lambda ids: np.ones(len(ids), np.int64))
    if "completions" in names and not pa.types.is_integer(rows.schema.field("completions").type):
        heavy += _inside(rows.column("completions"), _of_completions)
    found: list[int] = heavy.tolist()
    return found


def _of_completions(flat: pa.StructArray) -> _Sizes:
    numbers = sum(integers(pc.list_value_length(flat.field(name))) for name in ("token_ids", "logprobs"))
    return _binary(flat.field("text")) + _NUMBER * numbers


def _binary(values: pa.Array) -> _Sizes:
    """Bytes of each text, image or other binary value."""
    return integers(pc.binary_length(values))


def _inside(lists: pa.ChunkedArray, sizes: Callable[[pa.Array], _Sizes]) -> _Sizes:
    """The sum of the sizes of what is in each list."""
    found = [_sums(chunk, sizes) for chunk in lists.chunks]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _sums(lists: pa.Array, sizes: Callable[[pa.Array], _Sizes]) -> _Sizes:
    counts, found = integers(pc.list_value_length(lists)), sizes(lists.flatten())
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(found, dtype=np.int64)])
    edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    sums: _Sizes = ends[edges[1:]] - ends[edges[:-1]]
    return sums


def _leaves(field: pa.Field, path: str) -> Iterator[str]:
    if pa.types.is_struct(field.type):
        for inner in field.type:
            yield from _leaves(inner, f"{path}.{inner.name}")
    elif pa.types.is_list(field.type):
        yield from _leaves(field.type.value_field, f"{path}.list.element")
    else:
        yield path


def _is_image(leaf: str) -> bool:
    return leaf.endswith(".bytes")


class ShardFile:
    """One Parquet file being written. Rows are flushed in groups, so memory does not grow with the shard."""

    def __init__(self, path: Path, table: Table) -> None:
        schema = arrow_schema(table)
        leaves = [leaf for f in schema for leaf in _leaves(f, f.name)]
        self.path, self.rows, self._table = path, 0, table
        self._pending: list[Any] = []
        self._tables: list[pa.Table] = []
        self._pending_rows, self._pending_bytes = 0, 0
        # Images are compressed already; a second pass only costs time.
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression={leaf: "NONE" if _is_image(leaf) else "ZSTD" for leaf in leaves},
            # Hardly any image or log-prob comes twice: a dictionary of them would only be built and given up.
            use_dictionary=[leaf for leaf in leaves if not _is_image(leaf) and "logprobs" not in leaf],
        )

    def add(self, row: Any) -> None:
        """Append a row; it reaches the disk with its row group."""
        self._pending.append(row)
        self._count(1, row_bytes(row))

    def add_table(self, rows: pa.Table) -> None:
        """Append rows that are Arrow already; row groups end where they would end row by row."""
        self._rows_to_table()
        sizes, first = rows_bytes(rows), 0
        for n, size in enumerate(sizes, start=1):
            full = self._pending_rows + n - first >= ROW_GROUP_ROWS or self._pending_bytes + size >= ROW_GROUP_BYTES
            self._pending_bytes += size
            if full or n == len(sizes):
                self._tables.append(rows.slice(first, n - first))
                self._pending_rows += n - first
                first = n
            if full:
                self._flush()

    def _count(self, rows: int, size: int) -> None:
        self._pending_rows += rows
        self._pending_bytes += size
        if self._pending_rows >= ROW_GROUP_ROWS or self._pending_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def _rows_to_table(self) -> None:
        """Pending rows as a table, so that tables may come after them."""
        if self._pending:
            self._tables.append(to_table(self._table, self._pending))
            self._pending = []

    def _flush(self) -> None:
        self._rows_to_table()
        if self._tables:
            group = pa.concat_tables(self._tables).combine_chunks() if len(self._tables) > 1 else self._tables[0]
            self._writer.write_table(group)
            self.rows += self._pending_rows
        self._tables, self._pending_rows, self._pending_bytes = [], 0, 0

    def close(self) -> None:
        """Write what is pending and the footer."""
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Close without caring what the file holds; it will be deleted."""
        self._pending, self._tables = [], []
        try:
            self._writer.close()
        except OSError as error:
            # The writer flushes on close; on a full disk that fails again, and the file goes anyway.
            if error.errno not in (errno.ENOSPC, errno.EIO, None):
                raise


def open_shard(path: Path, table: Table | None) -> pq.ParquetFile:
    """An open shard whose schema fits the table; InputError names shard and column, or how much too much it holds."""
    try:
        # pyarrow's read-ahead takes the whole file into memory, images and all, before the first row is out.
        file = pq.ParquetFile(path, pre_buffer=False)
        check_parquet(file, path)
    except FileNotFoundError:
        raise InputError(f"shard {path} is missing", "copy it back, or rerun the stage that made it") from None
    except (pa.ArrowInvalid, OSError) as error:
        first = first_line(error)
        raise InputError(f"shard {path} can't be read: {first}", "delete its receipt and rerun its stage") from None
    if table is not None:
        try:
            check_schema(table, file.schema_arrow)
        except RowError as error:
            raise InputError(f"shard {path}: {error}", _made_by(file.schema_arrow, table)) from None
    return file


def _made_by(schema: pa.Schema, table: Table) -> str:
    """What to do about a shard that doesn't fit: an older cosmo wrote its table otherwise, or it is another table."""
    metadata = schema.metadata or {}
    name, version = (metadata.get(key, b"").decode(errors="replace") for key in (b"cosmo.table", b"cosmo.version"))
    if name == table.name and version != str(table.version):
        return f"another version of cosmo wrote it ({name} v{version}): rerun its stage with this one"
    return "is this the output of the right stage?"


def read_rows(path: Path, table: Table) -> Iterator[Any]:
    """Rows of one shard in order, a bounded number in memory at a time."""
    first = 0
    with open_shard(path, table) as file, _readable(path, table):
        # The table's columns and no others: scored groups are read as prompts, and their completions stay undecoded.
        for batch in file.iter_batches(batch_size=_rows_at_once(file), columns=list(hints(table.row))):
            yield from rows_from(table, batch, first)
            first += batch.num_rows


def _rows_at_once(file: pq.ParquetFile) -> int:
    """So many rows of this shard that the longest completions take no more memory than short ones."""
    groups = [file.metadata.row_group(n) for n in range(file.num_row_groups)]
    heaviest = max((g.total_byte_size // g.num_rows for g in groups if g.num_rows), default=0)
    return max(1, min(READ_ROWS, READ_BYTES // max(1, heaviest)))


def rows_at(path: Path, table: Table, rows: list[int]) -> Iterator[Any]:
    """The rows of these ascending numbers. Only row groups that hold one are read, one in memory at a time."""
    first = 0
    with open_shard(path, table) as file, _readable(path, table):
        for group in range(file.num_row_groups):
            end = first + file.metadata.row_group(group).num_rows
            if here := [r - first for r in rows if first <= r < end]:
                part = file.read_row_group(group, columns=list(hints(table.row)))
                yield from rows_from(table, part.take(column(here, pa.int64())), first)
            first = end


def read_whole(path: Path, table: Table) -> pa.Table:
    """All rows of one shard, as columns, for who takes of them again and again (`rows_in`)."""
    with open_shard(path, table) as file, _readable(path, table):
        return file.read(columns=list(hints(table.row))).combine_chunks()


def rows_in(whole: pa.Table, path: Path, table: Table, rows: list[int]) -> Iterator[Any]:
    """The rows of these numbers out of a shard that was read whole: those that `rows_at` gives."""
    with _readable(path, table):
        yield from rows_from(table, whole.take(column(rows, pa.int64())), 0)


@contextmanager
def _readable(path: Path, table: Table) -> Iterator[None]:
    """InputError where the shard's content can't be read as the table's rows."""
    try:
        yield
    except RowError as error:
        raise InputError(f"shard {path}: {error}", f"it is not a valid {table.name} shard") from None
    except (pa.ArrowInvalid, OSError) as error:
        line = first_line(error)
        raise InputError(f"shard {path} is corrupt: {line}", "delete its receipt and rerun its stage") from None


def leaves(file: pq.ParquetFile, wanted: Callable[[list[str]], bool]) -> list[str]:
    """The leaf columns whose field names are wanted: writers call a list's level `list.element` or `list.item`."""
    paths = [file.schema.column(i).path for i in range(len(file.schema))]
    return [p for p in paths if wanted([f for f in p.split(".") if f not in ("list", "element", "item", "array")])]


def read_columns(path: Path, columns: list[str], table: Table | None = None) -> pa.Table:
    """A cheap projection of one shard; a column may be a dotted path into a struct.

    With a table, the shard's schema is checked against it first.
    """
    with open_shard(path, table) as file:
        try:
            return file.read(columns=columns)
        except (pa.ArrowInvalid, OSError) as error:
            line = first_line(error)
            raise InputError(f"shard {path} is corrupt: {line}", "delete its receipt and rerun its stage") from None


def table_name(path: Path) -> str | None:
    """The table a shard says it holds; None for a Parquet file that is not ours."""
    with open_shard(path, None) as file:
        metadata = file.schema_arrow.metadata or {}
        name = metadata.get(b"cosmo.table")
        return name.decode() if name else None
