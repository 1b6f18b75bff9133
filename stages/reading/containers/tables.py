"""Parquet and Arrow files, with the names of classes that `datasets` keeps in their metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from stages.core.errors import InputError, first_line
from stages.core.storage.unpacked import check_parquet, checked_batches
from stages.reading.containers.base import Container, Item

_BATCH = 128
"""Rows as Python values at a time: whole images may be in them."""
_BLOCK = 32


class Parquet(Container):
    """Rows of Parquet files, with (file, row group, row) as position."""

    kind = "Parquet"

    def __init__(self, files: list[Path], folder: Path | None, name: str) -> None:
        super().__init__(files, folder, name)
        self._mtimes: dict[int, int] = {}

    def items(self) -> Iterator[Item]:
        """The rows of every group."""
        for f, path in enumerate(self.files):
            with _failures(path), _parquet(path) as file:
                names = _classes(file.schema_arrow)
                for group in range(file.num_row_groups):
                    n = 0
                    for batch in file.iter_batches(_BATCH, row_groups=[group]):
                        # Texts that are no UTF-8 are found here, and not by whoever looks at one.
                        batch.validate(full=True)
                        for record in batch.to_pylist():
                            ref = f"{path.name} row {n}" if group == 0 else f"{path.name} group {group} row {n}"
                            yield Item(ref, (f, group, n), _named(record, names))
                            n += 1

    def read(self, position: Any) -> dict[str, Any]:
        """The row of a group; the last group read stays in memory."""
        f, group, n = position
        path = self.files[f]
        with _failures(path):
            return dict(_group_block(path, self._written(f), group, n // _BLOCK)[n % _BLOCK])

    def _written(self, f: int) -> int:
        """When a file was last written, asked once: what is remembered of it is of the file that this container is."""
        if f not in self._mtimes:
            self._mtimes[f] = self.files[f].stat().st_mtime_ns
        return self._mtimes[f]

    def count(self) -> int | None:
        """The sum of what the files' footers say."""
        total = 0
        for path in self.files:
            with _failures(path), _parquet(path) as file:
                total += file.metadata.num_rows
        return total

    def holds_prompt_rows(self) -> bool:
        """Whether the files are what `prepare` writes."""
        from schemas.arrow import RowError, check_schema
        from schemas.tables import PROMPTS

        with _failures(self.files[0]), _parquet(self.files[0]) as file:
            try:
                check_schema(PROMPTS, file.schema_arrow)
            except RowError:
                return False
        return True


class Arrow(Container):
    """Rows of Arrow files, as `datasets.save_to_disk` writes them, mapped into memory."""

    kind = "Arrow"

    def items(self) -> Iterator[Item]:
        """The rows of every file."""
        for f, path in enumerate(self.files):
            with _failures(path):
                table = _arrow(path, path.stat().st_mtime_ns)
                names = _classes(table.schema)
                n = 0
                for batch in table.to_batches(_BATCH):
                    # Arrow takes a mapped file's offsets as they are, and a damaged one ends the process.
                    batch.validate(full=True)
                    for record in batch.to_pylist():
                        yield Item(f"{path.name} row {n}", (f, n), _named(record, names))
                        n += 1

    def read(self, position: Any) -> dict[str, Any]:
        """The row at a place in its file."""
        f, n = position
        path = self.files[f]
        with _failures(path):
            table = _arrow(path, path.stat().st_mtime_ns)
            row = table.slice(n, 1)
            row.validate(full=True)
            return _named(row.to_pylist()[0], _classes(table.schema))

    def count(self) -> int | None:
        """The sum of the files' rows."""
        total = 0
        for path in self.files:
            with _failures(path):
                total += _arrow(path, path.stat().st_mtime_ns).num_rows
        return total


class _failures:
    """What pyarrow says of a broken file as an InputError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Nothing is needed before."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        import pyarrow as pa

        # UnicodeError: names of columns are decoded where they are asked for.
        if isinstance(error, pa.ArrowException | OSError | UnicodeError):
            kind = "Parquet" if self._path.suffix == ".parquet" else "Arrow"
            why = f"{self._path} can't be read as {kind}: {first_line(error)}"
            raise InputError(why, "copy or download it again") from None


def _parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    check_parquet(file, path)
    return file


# One group only: with images in it, it may be hundreds of megabytes. Rows are asked for in the source's order.
@lru_cache(maxsize=1)
def _group(path: Path, mtime_ns: int, group: int) -> Any:
    with _parquet(path) as file:
        return file.read_row_group(group), _classes(file.schema_arrow)


@lru_cache(maxsize=2)
def _group_block(path: Path, mtime_ns: int, group: int, block: int) -> list[dict[str, Any]]:
    table, names = _group(path, mtime_ns, group)
    rows = table.slice(block * _BLOCK, _BLOCK)
    rows.validate(full=True)
    return [_named(record, names) for record in rows.to_pylist()]


@lru_cache(maxsize=4)
def _arrow(path: Path, mtime_ns: int) -> Any:
    """The table of a file in either of Arrow's two layouts."""
    import pyarrow as pa

    source = pa.memory_map(str(path))
    try:
        batches = reader = pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        reader = pa.ipc.open_file(source)
        batches = (reader.get_batch(n) for n in range(reader.num_record_batches))
    return pa.Table.from_batches(checked_batches(batches, path), reader.schema)


def _classes(schema: Any) -> dict[str, list[str]]:
    """Column -> names of its classes: `datasets` stores their numbers, and people mean the names."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {n: f["names"] for n, f in features.items() if isinstance(f, dict) and f.get("_type") == "ClassLabel"}
    # Written by somebody else, or nothing there: then there are no names.
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _named(record: dict[str, Any], classes: dict[str, list[str]]) -> dict[str, Any]:
    for column, names in classes.items():
        value = record.get(column)
        if isinstance(value, int) and 0 <= value < len(names):
            record[column] = names[value]
    return record
