"""Small files that stand for much, as a stranger may hand them in."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TEXT = "x" * (1 << 20)
TIMES = 300
"""So many times a megabyte: more than is ever decoded of so small a file."""


def _named(times: int = TIMES) -> pa.Array:
    """One text, named so many times by a number."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([TEXT]))


def _written(path: Path, column: pa.Array, **how: object) -> None:
    pq.write_table(pa.table({"prompt": column}), path, compression="zstd", store_schema=False, **how)


def dictionary(path: Path) -> None:
    """A text in the dictionary of its column, named again and again."""
    _written(path, _named())


def inside_lists(path: Path) -> None:
    """The same in the structs of one row's list."""
    texts = pa.StructArray.from_arrays([_named()], ["text"])
    _written(path, pa.ListArray.from_arrays(pa.array([0, TIMES], pa.int32()), texts))


def prefixes(path: Path) -> None:
    """Texts that are each written as the one before and nothing more."""
    how = {"use_dictionary": False, "column_encoding": {"prompt": "DELTA_BYTE_ARRAY"}}
    _written(path, pa.array([TEXT] * TIMES), **how)


def pages(path: Path) -> None:
    """Pages of one letter, compressed ten thousand times."""
    _written(path, pa.array([TEXT] * TIMES), use_dictionary=False)


def nothings(path: Path) -> None:
    """Rows without end that hold nothing."""
    _written(path, pa.nulls(10_000_000, pa.string()))


def arrow(path: Path) -> None:
    """An Arrow file whose texts are one, named again and again."""
    table = pa.table({"prompt": _named()})
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write_table(table)


PARQUET: dict[str, Callable[[Path], None]] = {
    made.__name__: made for made in (dictionary, inside_lists, prefixes, pages, nothings)
}


@lru_cache
def content(kind: str) -> bytes:
    """The bytes of such a Parquet file, made once: writing one costs a second."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bomb.parquet"
        PARQUET[kind](path)
        return path.read_bytes()
