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
PromptAddress = tuple[int, int, int]
"""Where a prompt lies: input folder, shard, row."""


def fetch(
    inputs: list[RunFolder], entries: Iterable[tuple[int, int, int, str]]
) -> list[tuple[PromptAddress, PromptRow]]:
    """The prompts at (folder, shard, row, id), in the order asked for.

    InputError when a row is no longer the planned one.
    """
    planned: dict[tuple[int, int], dict[int, str]] = {}
    order: list[PromptAddress] = []
    for folder, shard, row, ident in entries:
        planned.setdefault((folder, shard), {})[row] = ident
        order.append((folder, shard, row))
    shards = sorted(planned)
    paths = {folder: inputs[folder].shard_paths() for folder in {folder for folder, _ in shards}}

    def read(at: tuple[int, int]) -> list[PromptRow]:
        folder, shard = at
        return list(rows_at(paths[folder][shard], PROMPTS, sorted(planned[at])))

    found: dict[PromptAddress, PromptRow] = {}
    # Parquet is decoded outside of Python.
    for (folder, shard), prompts in zip(shards, in_order(read, shards, THREADS), strict=True):
        rows = planned[folder, shard]
        for row, prompt in zip(sorted(rows), prompts, strict=True):
            # A plan names rows by number, and bare Parquet may be written anew under its old name.
            if prompt.id != rows[row]:
                raise InputError(
                    f"row {row} of {paths[folder][shard]} is prompt {prompt.id}, and the plan says {rows[row]}",
                    "the input has changed since this run began: start it again with the same command",
                )
            found[folder, shard, row] = prompt
    return [(address, found[address]) for address in order]
