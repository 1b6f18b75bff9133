"""Fetching the planned prompts out of large upstream shards, without decoding the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from schemas.arrow import hints, rows_from
from schemas.prompts import PromptRow
from schemas.tables import PROMPTS
from stages.core.errors import InputError
from stages.core.folder import RunFolder
from stages.core.shards import READ_ROWS, open_shard

Place = tuple[int, int, int]
"""Where a prompt lies: input folder, shard, row."""


def fetch(inputs: list[RunFolder], entries: Iterable[tuple[int, int, int, str]]) -> list[tuple[Place, PromptRow]]:
    """The prompts at (folder, shard, row, id), in the order asked for.

    InputError when a row is no longer the planned one.
    """
    wanted: dict[tuple[int, int], dict[int, str]] = {}
    order: list[Place] = []
    for folder, shard, row, ident in entries:
        wanted.setdefault((folder, shard), {})[row] = ident
        order.append((folder, shard, row))
    found: dict[Place, PromptRow] = {}
    for (folder, shard), rows in wanted.items():
        path = inputs[folder].shard_paths()[shard]
        for row, prompt in _rows(path, sorted(rows)):
            if prompt.id != rows[row]:
                raise InputError(
                    f"row {row} of {path} is prompt {prompt.id}, and the plan says {rows[row]}",
                    "the input has changed since this run began: start it again with the same command",
                )
            found[folder, shard, row] = prompt
    return [(place, found[place]) for place in order]


def _rows(path: Path, rows: list[int]) -> Iterator[tuple[int, PromptRow]]:
    """Some rows of a shard by number, in order."""
    import pyarrow as pa

    waiting = iter(rows)
    row = next(waiting, None)
    first = 0
    with open_shard(path, PROMPTS) as file:
        for batch in file.iter_batches(batch_size=READ_ROWS, columns=list(hints(PromptRow))):
            here = []
            while row is not None and row < first + batch.num_rows:
                here.append(row)
                row = next(waiting, None)
            if here:
                picked = batch.take(pa.array([r - first for r in here]))
                yield from zip(here, rows_from(PROMPTS, picked), strict=True)
            if row is None:
                return
            first += batch.num_rows
