"""Examples to imitate: which, in what order, and their rows a window at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from schemas.tables import PROMPTS, SCORED, Table
from stages.core.errors import InputError
from stages.core.runs.folder import RunFolder
from stages.core.runs.select import Entry, index, select
from stages.core.runs.shards import read_columns, rows_at
from stages.core.seeded import seeded_order
from stages.train.config import TrainConfig
from stages.train.rl.batches import Reject, barred

WINDOW = 2048
"""Rows, images included, held in memory at once."""


def trainable_entries(inputs: list[RunFolder], config: TrainConfig, reject: Reject) -> Iterator[Entry]:
    """The selected prompts that may be trained on, in order; the others are rejected with their reason.

    InputError for a held-out family.
    """
    for entry in select(index(inputs), config.select):
        source = inputs[entry.folder].path.name
        if (why := barred(entry, config)) is not None:
            reject(source, entry.id, *why)
        else:
            yield entry


def usable_entries(inputs: list[RunFolder], config: TrainConfig, reject: Reject) -> list[Entry]:
    """The trainable prompts that have a completion to imitate; InputError when there is none."""
    references = [
        [r is not None for r in read_columns(path, ["reference_response"]).column(0).to_pylist()]
        for folder in inputs
        for path in folder.shard_paths()
    ]
    first = _first_shards(inputs)
    kept = []
    for entry in trainable_entries(inputs, config, reject):
        if not references[first[entry.folder] + entry.shard][entry.row]:
            source = inputs[entry.folder].path.name
            reject(source, entry.id, "no_reference_response", "there is no completion to imitate")
        else:
            kept.append(entry)
    if not kept:
        raise InputError("no selected prompt can be imitated", "SFT needs train rows with a reference_response")
    return kept


def _first_shards(inputs: list[RunFolder]) -> list[int]:
    counts = [len(folder.shard_paths()) for folder in inputs]
    return [sum(counts[:i]) for i in range(len(counts))]


def example_order(entries: list[Entry], config: TrainConfig) -> list[Entry]:
    """Every example the run will see, in order: one permutation an epoch, by a digest of (seed, epoch, id).

    `steps` of `batch_size` where steps are given, else whole epochs. A resumed run is a slice of this.
    """
    return list(islice(permutations(entries, config.seed, lambda e: e.id), rows_to_take(config, len(entries))))


def rows_to_take(config: TrainConfig, known: int) -> int:
    """How many rows a run learns from: `steps` of `batch_size` where steps are given, else `epochs` of all known."""
    return config.steps * config.batch_size or config.epochs * known


class ExampleRows:
    """Examples of an order by position, read a window at a time so that memory stays flat.

    Rows are read as `table`'s; `made` makes the example out of entry and row.
    """

    def __init__(
        self,
        inputs: list[RunFolder],
        order: Sequence[Entry],
        window: int = WINDOW,
        *,
        table: Table = PROMPTS,
        made: Callable[[Any, Any], Any] = lambda entry, row: row,
    ) -> None:
        self._inputs, self._order, self._window = inputs, order, window
        self._table, self._made = table, made
        self._start = -1
        self._window_rows: dict[Entry, Any] = {}

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, position: int) -> Any:
        start = position - position % self._window
        if start != self._start:
            self._window_rows = self._read(set(self._order[start : start + self._window]))
            self._start = start
        return self._window_rows[self._order[position]]

    def source(self, position: int) -> str:
        """The input folder that a position's row comes from."""
        return self._inputs[self._order[position].folder].path.name

    def _read(self, needed: set[Entry]) -> dict[Entry, Any]:
        by_shard: dict[tuple[int, int], list[Entry]] = {}
        # `rows_at` takes rows in ascending order: a row group is decoded once for all that are wanted of it.
        for entry in sorted(needed, key=lambda e: (e.folder, e.shard, e.row)):
            by_shard.setdefault((entry.folder, entry.shard), []).append(entry)
        paths = {folder: self._inputs[folder].shard_paths() for folder in {folder for folder, _ in by_shard}}
        found: dict[Entry, Any] = {}
        for (folder, shard), entries in by_shard.items():
            rows = rows_at(paths[folder][shard], self._table, [e.row for e in entries])
            for entry, row in zip(entries, rows, strict=True):
                found[entry] = self._made(entry, row)
        return found


def completion_fields(path: Path, names: list[str]) -> list[list[dict[str, Any]]]:
    """These fields of every completion of a scored shard, by row; nothing else becomes Python objects."""
    import pyarrow.compute as pc

    rows: list[list[dict[str, Any]]] = []
    for groups in read_columns(path, ["completions"], SCORED).column(0).chunks:
        flat = pc.list_flatten(groups)
        # Older shards lack fields that came later.
        there = [flat.type.get_field_index(name) >= 0 for name in names]
        columns = [
            pc.struct_field(flat, name).to_pylist() if known else [None] * len(flat)
            for name, known in zip(names, there, strict=True)
        ]
        values = (dict(zip(names, v, strict=True)) for v in zip(*columns, strict=True))
        rows += [[next(values) for _ in range(size or 0)] for size in pc.list_value_length(groups).to_pylist()]
    return rows


def completions_by_shard(
    inputs: list[RunFolder], names: list[str]
) -> dict[tuple[int, int], list[list[dict[str, Any]]]]:
    """`completion_fields` of all inputs, by (folder, shard) as entries count them."""
    return {
        (number, shard): completion_fields(path, names)
        for number, folder in enumerate(inputs)
        for shard, path in enumerate(folder.shard_paths())
    }


def permutations(entries: Sequence[Any], seed: int, name: Callable[[Any], str]) -> Iterator[Any]:
    """The entries again and again, each time all of them, ordered by a digest of (seed, epoch, name)."""
    epoch = 0
    while entries:
        yield from seeded_order(entries, seed, epoch, name=name)
        epoch += 1
