"""All shards of a run made in one reading of the sources: rows are spilled into their shards as they come.

Shards hold rows drawn from everywhere, so that a shard made alone reads nearly all of its sources. Whoever does
several of them makes all rows once, in the sources' order, and keeps each for its shard in a file of Arrow streams.
Nothing of that counts as done: a kill throws it away, and a shard is still what its receipt says.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.arrow import arrow_schema, to_table
from schemas.columns import column, integers
from schemas.prompts import PromptRow
from schemas.tables import PROMPTS
from stages.core.errors import BadSample
from stages.core.runs.shards import ROW_GROUP_BYTES, ROW_GROUP_ROWS, row_bytes, rows_bytes
from stages.core.stage import Progress
from stages.prepare.kept_rows import KeptRows, gathered
from stages.prepare.mixing import Step
from stages.prepare.row_maker import Illustrated, Kept, RowMaker

SPILL_BYTES = 48 << 20
"""Images of made rows in memory, over all shards, before they go to their files."""
SPILL_ROWS = 4096
_PLACE = "place"


@dataclass(slots=True)
class Account:
    """What a shard has beside rows, in the order it was found."""

    rejected: list[tuple[str, str, str, str]] = field(default_factory=list)
    """Source, ref, reason and detail of each record that gave no row."""
    wrong_names: list[str] = field(default_factory=list)
    """Images of another type than their name says."""
    rows: int = 0


def made_rows(
    maker: RowMaker,
    shards: Sequence[dict[str, Any]],
    accounts: Sequence[Account],
    progress: Progress,
    finished: Sequence[set[int]] | None = None,
) -> Iterator[tuple[int, int, PromptRow | Illustrated]]:
    """(shard, place in it, row) of all that the shards ask for, in the sources' order, each record read once.

    What can't be made is in the shard's account instead. Where `finished` is given its places are left out, and of
    other kept rows the images alone are made; left out, all rows are whole.
    """
    steps = [[s and Step(*s) for s in shard.get("steps") or [None] * len(shard["index"])] for shard in shards]
    asked_for: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for k, shard in enumerate(shards):
        for n, position in enumerate(zip(shard["source"], shard["index"], strict=True)):
            if finished is None or n not in finished[k]:
                asked_for.setdefault(position, []).append((k, n))
    # A row that others are made of is needed as an object.
    whole = {
        (source, at)
        for shard, planned in zip(shards, steps, strict=True)
        for source, index, step in zip(shard["source"], shard["index"], planned, strict=True)
        if step is not None
        for at in (index, step.twin_of, step.partner)
        if at is not None
    }
    # Large files are read well in their own order.
    for position, made in maker.make_rows(sorted(asked_for), None if finished is None else whole):
        for k, n in asked_for[position]:
            account, step = accounts[k], steps[k][n]
            try:
                if isinstance(made, BadSample):
                    raise made
                row, odd = maker.finish(made, position[0], step)
                account.wrong_names += odd
                account.rows += 1
                yield k, n, row
            except BadSample as error:
                source, ref = maker.named(*position)
                account.rejected.append((source, f"{ref} +{step.family}" if step else ref, error.reason, error.detail))
            progress.advance()


class OnePass:
    """The rows of several shards, made when the first of them is asked for."""

    def __init__(self, maker: RowMaker, shards: Sequence[dict[str, Any]], folder: Path, progress: Progress) -> None:
        self._maker, self._shards, self._progress = maker, list(shards), progress
        self._accounts: list[Account] = []
        self._kept: list[Kept] = []
        self._spill = _Spill(folder)

    def find(self, shard: dict[str, Any]) -> int | None:
        """The number of the shard here; None where this process did not mean to do it."""
        return self._shards.index(shard) if shard in self._shards else None

    def account(self, number: int) -> Account:
        """What the shard has beside its rows."""
        if not self._accounts:
            self._accounts = [Account() for _ in self._shards]
            self._progress.start("prepare", sum(len(s["index"]) for s in self._shards), "rows")
            self._kept = [self._maker.kept(shard) for shard in self._shards]
            finished = [{n for places, _ in kept.values() for n in places} for kept in self._kept]
            for account, places in zip(self._accounts, finished, strict=True):
                account.rows += len(places)
                self._progress.advance(len(places))
            for k, n, row in made_rows(self._maker, self._shards, self._accounts, self._progress, finished):
                self._spill.add(k, n, row)
            self._spill.flush()
        return self._accounts[number]

    def tables(self, number: int) -> Iterator[pa.Table]:
        """The shard's rows in their order, a bounded number at a time."""
        kept = [
            rows.take(numbers).append_column(_PLACE, column(places, pa.int64()))
            for rows, (places, numbers) in self._kept[number].items()
        ]
        return self._spill.tables(number, kept)


class _Spill:
    """Rows on their way into shards: a file each, to which Arrow streams are appended.

    A file is opened for each stream anew, since there may be more shards than a process may have open files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Of a try that was killed: the lock of the shard whose scratch this is keeps others away.
        shutil.rmtree(folder, ignore_errors=True)
        self._pending: list[tuple[int, int, PromptRow | Illustrated]] = []
        self._bytes = 0
        self._schema = arrow_schema(PROMPTS).remove_metadata().append(pa.field(_PLACE, pa.int64()))

    def add(self, shard: int, place: int, row: PromptRow | Illustrated) -> None:
        self._pending.append((shard, place, row))
        self._bytes += row_bytes(row)
        if self._bytes >= SPILL_BYTES or len(self._pending) >= SPILL_ROWS:
            self.flush()

    def flush(self) -> None:
        """Put what is pending into its files."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._pending.sort(key=lambda entry: entry[0])
        by_rows: dict[KeptRows | None, list[tuple[int, int, Any]]] = {}
        for entry in self._pending:
            row = entry[2]
            by_rows.setdefault(row.record.kept_in if isinstance(row, Illustrated) else None, []).append(entry)
        for kept, entries in by_rows.items():
            rows = [row for _, _, row in entries]
            self._write(entries, to_table(PROMPTS, rows) if kept is None else _illustrated(kept, rows))
        self._pending, self._bytes = [], 0

    def _write(self, entries: list[tuple[int, int, Any]], made: pa.Table) -> None:
        """Rows into the files of their shards, by which they are sorted."""
        places = column([place for _, place, _ in entries], pa.int64())
        rows, first = pa.Table.from_arrays([*made.columns, places], schema=self._schema), 0
        for shard, of_shard in itertools.groupby(entries, key=lambda entry: entry[0]):
            part = rows.slice(first, len(list(of_shard)))
            with open(self._file(shard), "ab") as file, pa.ipc.new_stream(file, self._schema) as stream:
                stream.write_table(part)
            first += part.num_rows

    def tables(self, shard: int, kept: list[pa.Table]) -> Iterator[pa.Table]:
        """The shard's rows by place, with those that were kept elsewhere; the file is gone afterwards."""
        path = self._file(shard)
        if not path.exists():
            if kept:
                yield from _in_order(kept)
            return
        with pa.memory_map(str(path)) as file:
            size, parts = path.stat().st_size, kept
            while file.tell() < size:
                with pa.ipc.open_stream(file) as stream:
                    parts.append(stream.read_all())
            yield from _in_order(parts)
        path.unlink()

    def _file(self, shard: int) -> Path:
        return self._folder / f"{shard:05d}.arrows"


def _illustrated(kept: KeptRows, rows: list[Illustrated]) -> pa.Table:
    """Kept rows with their images."""
    taken = kept.take([row.record.kept_at for row in rows])
    at = taken.schema.get_field_index("images")
    images = column([row.images for row in rows], taken.schema.field(at).type)
    return taken.set_column(at, "images", images)


def _in_order(parts: list[pa.Table]) -> Iterator[pa.Table]:
    """The rows of all parts by their place, as many at a time as make a row group."""
    sizes = [size for part in parts for size in rows_bytes(part)]
    places = np.concatenate([integers(chunk) for part in parts for chunk in part.column(_PLACE).chunks])
    starts = np.cumsum([0, *(part.num_rows for part in parts)])
    schema = arrow_schema(PROMPTS)
    order = np.argsort(places)
    # Where nothing was spilled they come in order: slices do, and nothing is copied.
    whole = parts[0] if len(parts) == 1 and (order == np.arange(len(order))).all() else None
    first = 0
    heavy = 0
    for n, row in enumerate(order.tolist(), start=1):
        heavy += sizes[row]
        if heavy >= ROW_GROUP_BYTES or n - first >= ROW_GROUP_ROWS or n == len(order):
            rows = whole.slice(first, n - first) if whole is not None else gathered(parts, starts, order[first:n])
            yield rows.select(schema.names).replace_schema_metadata(schema.metadata)
            first, heavy = n, 0
