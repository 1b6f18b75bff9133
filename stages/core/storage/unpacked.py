"""How much a Parquet or Arrow file stands for, known before it is decoded: some hundred bytes may stand for gigabytes.

A long text is written once in a column's dictionary and named a million times by a run of numbers, or a page of one
letter is compressed ten thousand times. So no file is decoded that stands for more than `FLOOR_BYTES` and for more
than `MOST_TIMES` its own size. Files that people write stand for up to some hundred times their size.

A footer says how many values a column has and what its pages take once they are decompressed. Where that could be too
much, the lengths in the column's dictionary and the numbers that name them are read, and no text is made of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

FLOOR_BYTES = 256 << 20
"""Whatever its size, a file may stand for so much: a few times as much memory is on every machine."""
MOST_TIMES = 1000
"""So many times its size a larger file may stand for: a system prompt of 20 kB before each of many short questions."""
_ROW = 64
"""Bytes of a row that holds nothing: it is a Python object, and is looked at, too."""
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_OFFSET = 8
"""Bytes that a value takes beside its own: where it ends, and whether it is there."""
_WALKED_BYTES = 512 << 20
"""Most that is decoded at a time of a column whose values can only be measured by decoding them."""
_BUFFER = 1 << 16
"""Bytes that are read at a time to measure a column."""
_MEASURED: set[tuple[str, int, int]] = set()
"""(path, time of writing, size) of Parquet files that stand for no more than they may."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The texts of one column in one row group, that may stand for more than their pages."""

    group: int
    leaf: str
    values: int
    page_bytes: int
    """Its pages once they are decompressed; no value of it is longer."""
    by_prefix: bool
    """Whether its values may be written as the one before and what differs (DELTA_BYTE_ARRAY)."""
    nested: bool


def check_parquet(file: pq.ParquetFile, path: Path) -> None:
    """InputError for a Parquet file that stands for too much; it is measured once, and again when it has changed."""
    state = path.stat()
    known = (str(path), state.st_mtime_ns, state.st_size)
    if known not in _MEASURED:
        _measure(file, path, state.st_size)
        _MEASURED.add(known)


def checked_batches(batches: Iterable[pa.RecordBatch], path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file; InputError once they stand for too much."""
    size, found = path.stat().st_size, 0
    for batch in batches:
        found += batch.num_rows * _ROW + sum(_leaf_bytes(leaf) for column in batch.columns for leaf in _leaves(column))
        if found > most_bytes(size):
            raise _refusal(path, size, found)
        yield batch


def most_bytes(size: int) -> int:
    """How many bytes a file of so many may stand for."""
    return max(FLOOR_BYTES, MOST_TIMES * size)


def _refusal(path: Path, size: int, found: int) -> InputError:
    return InputError(
        f"{path} has {size:,} bytes and stands for {found:,} or more: at most {most_bytes(size):,} are decoded"
        f" ({FLOOR_BYTES >> 20} MiB, or {MOST_TIMES} times its size)",
        "if you trust it, write it anew as several files",
    )


def _measure(file: pq.ParquetFile, path: Path, size: int) -> None:
    """InputError where the file stands for too much."""
    most = most_bytes(size)
    certain, chunks = _by_footer(file)
    worst = {chunk: chunk.values * chunk.page_bytes for chunk in chunks}
    unsure = sum(worst.values())
    with _Reader(file, path, {chunk.leaf for chunk in chunks if not chunk.by_prefix}) as reader:
        # Those that could stand for the most are looked at first: of most files few are, or none.
        for chunk in sorted(chunks, key=lambda c: -worst[c]):
            if certain > most or certain + unsure <= most:
                break
            unsure -= worst[chunk]
            worst[chunk] = _at_most(reader, chunk)
            unsure += worst[chunk]
        for chunk in sorted(chunks, key=lambda c: -worst[c]):
            if certain > most or certain + unsure <= most:
                break
            unsure -= worst[chunk]
            certain += _exactly(reader, chunk, most)
    if certain > most:
        raise _refusal(path, size, certain)


def _by_footer(file: pq.ParquetFile) -> tuple[int, list[_Chunk]]:
    """What a file stands for at least, in bytes, and the chunks that may stand for more than the footer says."""
    metadata = file.metadata
    columns = [file.schema.column(n) for n in range(len(file.schema))]
    named = [(c.path, c.physical_type, c.length or 0, c.max_repetition_level > 0) for c in columns]
    certain, chunks = metadata.num_rows * _ROW, []
    for group in range(metadata.num_row_groups):
        part = metadata.row_group(group)
        for n, (leaf, kind, length, nested) in enumerate(named):
            chunk = part.column(n)
            values, page_bytes = chunk.num_values, chunk.total_uncompressed_size
            certain += values * _OFFSET + max(page_bytes, values * _WIDTHS.get(kind, length))
            if kind == "BYTE_ARRAY":
                encodings = chunk.encodings
                by_prefix = "DELTA_BYTE_ARRAY" in encodings
                if by_prefix or chunk.has_dictionary_page or any("DICTIONARY" in e for e in encodings):
                    chunks.append(_Chunk(group, leaf, values, page_bytes, by_prefix, nested))
    return certain, chunks


def _at_most(reader: _Reader, chunk: _Chunk) -> int:
    """What a chunk stands for if all its values are as long as the longest of its dictionary, in bytes."""
    import pyarrow.compute as pc

    if chunk.by_prefix:
        return chunk.values * chunk.page_bytes
    # The first row brings the whole dictionary along.
    for leaf in next(reader.leaves(chunk, rows=1), []):
        if _is_text(getattr(leaf.type, "value_type", None)) and len(leaf.dictionary):
            longest = pc.max(pc.binary_length(leaf.dictionary)).as_py() or 0
            # Once the dictionary was full, values stand in the pages themselves.
            return min(int(longest), chunk.page_bytes) * chunk.values + chunk.page_bytes
    return chunk.values * chunk.page_bytes


def _exactly(reader: _Reader, chunk: _Chunk, most: int) -> int:
    """What the values of a chunk stand for, in bytes, counted until it is too much."""
    rows, found = 1 << 16, 0
    if chunk.by_prefix:
        # A row of a list may hold all of them, and nothing but decoding them says so.
        if chunk.nested:
            return chunk.values * chunk.page_bytes
        rows = max(1, _WALKED_BYTES // max(1, chunk.page_bytes))
    for leaves in reader.leaves(chunk, rows):
        found += sum(map(_leaf_bytes, leaves))
        if found > most:
            break
    return found


class _Reader:
    """The file opened once more, its texts to be read as numbers into their dictionaries."""

    def __init__(self, file: pq.ParquetFile, path: Path, by_dictionary: set[str]) -> None:
        self._file, self._path, self._by_dictionary = file, path, by_dictionary
        self._opened: dict[bool, pq.ParquetFile] = {}

    def __enter__(self) -> _Reader:
        """Nothing is opened before it is needed."""
        return self

    def __exit__(self, *raised: object) -> None:
        for file in self._opened.values():
            file.close()

    def leaves(self, chunk: _Chunk, rows: int) -> Iterator[list[Any]]:
        """The values of a chunk in arrays that hold no list or struct, so many rows at a time."""
        file = self._of(chunk.by_prefix)
        for batch in file.iter_batches(rows, row_groups=[chunk.group], columns=[chunk.leaf], use_threads=False):
            yield [leaf for column in batch.columns for leaf in _leaves(column)]

    def _of(self, by_prefix: bool) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        if by_prefix not in self._opened:
            self._opened[by_prefix] = pq.ParquetFile(
                self._path,
                metadata=self._file.metadata,
                # pyarrow can't read prefixes that way, and says so.
                read_dictionary=[] if by_prefix else sorted(self._by_dictionary),
                pre_buffer=False,
                buffer_size=_BUFFER,
            )
        return self._opened[by_prefix]


def _leaf_bytes(leaf: Any) -> int:
    """Bytes of the values of an array without lists and structs, each as often as it is named."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(leaf.type):
        return int(leaf.nbytes)
    if not _is_text(leaf.type.value_type):
        return len(leaf) * _OFFSET
    lengths = pc.binary_length(leaf.dictionary).cast(pa.int64())
    return pc.sum(lengths.take(leaf.indices)).as_py() or 0


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def _leaves(array: Any) -> Iterator[Any]:
    """The innermost arrays of a nested one: texts in the structs of a list are one array."""
    import pyarrow as pa

    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        yield from _leaves(array.storage)
    elif pa.types.is_struct(kind):
        for part in array.flatten():
            yield from _leaves(part)
    elif pa.types.is_map(kind):
        yield from _leaves(array.keys)
        yield from _leaves(array.items)
    elif hasattr(kind, "value_field"):
        yield from _leaves(array.flatten())
    else:
        yield array
