"""Fetching the planned prompts out of large upstream shards, without decoding the others."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.prompts import PromptRow
from schemas.tables import PROMPTS
from stages.core.errors import InputError
from stages.core.parallel_map import in_order
from stages.core.runs.folder import RunFolder
from stages.core.runs.shards import rows_at

THREADS = 4
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
    places = sorted(wanted)
    paths = {folder: inputs[folder].shard_paths() for folder in {folder for folder, _ in places}}

    def read(place: tuple[int, int]) -> list[PromptRow]:
        return list(rows_at(paths[place[0]][place[1]], PROMPTS, sorted(wanted[place])))

    found: dict[Place, PromptRow] = {}
    # Parquet is decoded outside of Python.
    for (folder, shard), prompts in zip(places, in_order(read, places, THREADS), strict=True):
        rows = wanted[folder, shard]
        for row, prompt in zip(sorted(rows), prompts, strict=True):
            if prompt.id != rows[row]:
                raise InputError(
                    f"row {row} of {paths[folder][shard]} is prompt {prompt.id}, and the plan says {rows[row]}",
                    "the input has changed since this run began: start it again with the same command",
                )
            found[folder, shard, row] = prompt
    return [(place, found[place]) for place in order]
