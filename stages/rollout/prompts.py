"""Fetching the planned prompts out of large upstream shards, without decoding the others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.identity import digest
from schemas.prompts import PromptRow
from schemas.tables import PROMPTS
from stages.core.errors import InputError
from stages.core.parallel_map import in_order
from stages.core.resources import Kind, Resources
from stages.core.runs.folder import RunFolder
from stages.core.runs.shards import read_whole, rows_at, rows_in

if TYPE_CHECKING:
    import pyarrow as pa

THREADS = 4
KEPT_BYTES = 64 << 20
"""Prompts of up to so many bytes on disk stay in memory, where they are fetched more than once."""
READ_BEFORE: Kind[dict[Path, pa.Table]] = Kind("rollout.prompts")
"""Shards that a recipe's turns take prompts from, as columns, by what tells that they are the same."""
PromptAddress = tuple[int, int, int]
"""Where a prompt lies: input folder, shard, row."""


def fetch(
    inputs: list[RunFolder], entries: Iterable[tuple[int, int, int, str]], resources: Resources
) -> list[tuple[PromptAddress, PromptRow]]:
    """The prompts at (folder, shard, row, id), in the order asked for.

    `resources` keep small shards in memory from the second time on. InputError when a row is no longer the planned one.
    """
    planned: dict[tuple[int, int], dict[int, str]] = {}
    order: list[PromptAddress] = []
    for folder, shard, row, ident in entries:
        planned.setdefault((folder, shard), {})[row] = ident
        order.append((folder, shard, row))
    shards = sorted(planned)
    paths = {folder: inputs[folder].shard_paths() for folder in {folder for folder, _ in shards}}

    kept = _kept([path for folder in sorted(paths) for path in paths[folder]], resources)

    def read(at: tuple[int, int]) -> list[PromptRow]:
        folder, shard = at
        path, rows = paths[folder][shard], sorted(planned[at])
        if kept is None:
            return list(rows_at(path, PROMPTS, rows))
        if path not in kept:
            kept[path] = read_whole(path, PROMPTS)
        return list(rows_in(kept[path], path, PROMPTS, rows))

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


def _kept(shards: list[Path], resources: Resources) -> dict[Path, pa.Table] | None:
    """Where these shards are kept in memory; None for large ones, and at the first time: it may be the only one."""
    stats = [path.stat() for path in shards]
    if sum(status.st_size for status in stats) > KEPT_BYTES:
        return None
    marks = [[str(p), s.st_ino, s.st_size, s.st_mtime_ns] for p, s in zip(shards, stats, strict=True)]
    key = digest(marks)
    kept = resources.peek(READ_BEFORE, key)
    if kept is None:
        resources.put(READ_BEFORE, key, {})
    return kept
