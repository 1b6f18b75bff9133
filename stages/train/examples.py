"""SFT examples: which, in what order, and their rows a window at a time."""

from __future__ import annotations

import hashlib
from typing import Any

from schemas.arrow import hints, rows_from
from schemas.prompts import PromptRow
from schemas.tables import PROMPTS
from stages.core.errors import InputError
from stages.core.folder import RunFolder
from stages.core.select import Entry, index, select
from stages.core.shards import open_shard, read_columns
from stages.train.config import TrainConfig
from stages.train.rollouts import Reject

WINDOW = 2048
"""Rows, pictures included, held in memory at once."""


def usable_entries(inputs: list[RunFolder], config: TrainConfig, reject: Reject) -> list[Entry]:
    """The selected prompts that can be imitated, in order; the others are rejected with their reason.

    InputError for a held-out family, or when none is left.
    """
    replies = [
        [r is not None for r in read_columns(path, ["reference_response"]).column(0).to_pylist()]
        for folder in inputs
        for path in folder.shard_paths()
    ]
    first = _first_shards(inputs)
    kept = []
    for entry in select(index(inputs), config.select):
        source = inputs[entry.folder].path.name
        if entry.family in config.forbid_families:
            raise InputError(
                f"prompt {entry.id} is of the held-out family {entry.family!r}",
                f"--set 'select.exclude_families=[\"{entry.family}\"]'",
            )
        if "no_training" in entry.flags:
            reject(source, entry.id, "no_training", "the row is flagged no_training")
        elif entry.split == "test":
            reject(source, entry.id, "test_split", "the row belongs to the test split")
        elif not replies[first[entry.folder] + entry.shard][entry.row]:
            reject(source, entry.id, "no_reference_response", "there is no reply to imitate")
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
    wanted = config.steps * config.batch_size or config.epochs * len(entries)
    order: list[Entry] = []
    epoch = 0
    while len(order) < wanted:
        order += sorted(entries, key=lambda e: hashlib.sha256(f"{config.seed}|{epoch}|{e.id}".encode()).digest())
        epoch += 1
    return order[:wanted]


class ExampleRows:
    """Rows of the ordered examples by position, read a window at a time so that memory stays flat."""

    def __init__(self, inputs: list[RunFolder], order: list[Entry], window: int = WINDOW) -> None:
        self._inputs, self._order, self._window = inputs, order, window
        self._start = -1
        self._rows: dict[Entry, PromptRow] = {}

    def __getitem__(self, position: int) -> PromptRow:
        start = position - position % self._window
        if start != self._start:
            self._rows = self._read(set(self._order[start : start + self._window]))
            self._start = start
        return self._rows[self._order[position]]

    def source(self, position: int) -> str:
        """The input folder that a position's row comes from."""
        return self._inputs[self._order[position].folder].path.name

    def _read(self, wanted: set[Entry]) -> dict[Entry, PromptRow]:
        by_shard: dict[tuple[int, int], list[Entry]] = {}
        for entry in sorted(wanted, key=lambda e: (e.folder, e.shard, e.row)):
            by_shard.setdefault((entry.folder, entry.shard), []).append(entry)
        found: dict[Entry, PromptRow] = {}
        for (folder, shard), entries in by_shard.items():
            found |= _rows_at(self._inputs[folder].shard_paths()[shard], entries)
        return found


def _rows_at(path: Any, entries: list[Entry]) -> dict[Entry, PromptRow]:
    """The entries' rows of one shard, one row group in memory at a time."""
    found: dict[Entry, PromptRow] = {}
    with open_shard(path, PROMPTS) as file:
        first = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            mine = [e for e in entries if first <= e.row < first + count]
            if mine:
                table = file.read_row_group(group, columns=list(hints(PromptRow))).take([e.row - first for e in mine])
                found |= dict(zip(mine, rows_from(PROMPTS, table), strict=True))
            first += count
    return found
