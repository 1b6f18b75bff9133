"""Which prompts a stage takes: by label weights, split and family, as a pure function of content and seed.

A draw is a slice of an endless, seeded, weighted sequence: draw 3 of 32 is the same prompts whether or not
draws 0-2 were made, so iterations of a loop can be planned, skipped and repeated.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from schemas.identity import digest
from stages.core.config import option
from stages.core.errors import InputError
from stages.core.parallel_map import in_order
from stages.core.resources import Kind, Resources
from stages.core.seeded import seeded_order

if TYPE_CHECKING:
    from pathlib import Path

    from stages.core.runs.folder import RunFolder

# The golden ratio's fraction: its multiples modulo 1 leave the most even gaps of all (low-discrepancy sequence).
_GOLDEN = 0.6180339887498949
_THREADS = 4
# Pools of some prompts that are kept, and orders of a pool: a recipe of some phases and labels has fewer.
_KEPT = 32

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Selection:
    """Which prompts a stage takes of its inputs, and in which draw."""

    labels: dict[str, float] = option({}, "Label weights; empty takes every label as it comes")
    split: str = option("", "Only this split", choices=("", "train", "test"))
    take: int = option(0, "Prompts a draw; 0 takes all", low=0)
    draw: int = option(0, "Which slice of the seeded sequence", low=0)
    seed: int = option(0, "Seed of the sequence")
    families: list[str] = option([], "Only rows of these augmentation families")
    exclude_families: list[str] = option([], "Augmentation families left out")
    exclude_flags: list[str] = option([], "Rows with one of these flags are left out")


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one prompt lies and what selection needs to know of it."""

    folder: int
    shard: int
    row: int
    id: str
    label: str
    split: str
    task: str
    family: str | None
    flags: tuple[str, ...]


class Pool:
    """The prompts that a selection leaves, and what its draws need of them, found out once."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.labels: dict[str, list[Entry]] = {}
        """By label, labels by name: the order in which they come in the inputs must not change a draw."""
        for entry in entries:
            self.labels.setdefault(entry.label, []).append(entry)
        self.labels = dict(sorted(self.labels.items()))
        self._orders: OrderedDict[tuple[int, str, int], list[Entry]] = OrderedDict()

    def order(self, seed: int, label: str, epoch: int) -> list[Entry]:
        """The prompts of a label, "" for all, in the order of (seed, label, epoch, id)."""
        key = (seed, label, epoch)
        if key not in self._orders:
            entries = self.labels[label] if label else self.entries
            self._orders[key] = seeded_order(entries, *key, name=lambda entry: entry.id)
        return _latest(self._orders, key)


class Prompts(list[Entry]):
    """Every prompt of some inputs, in order. A recipe draws from the same ones every turn: its pools are kept."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        super().__init__(entries)
        self._pools: OrderedDict[tuple[object, ...], Pool] = OrderedDict()

    def pool(self, selection: Selection) -> Pool:
        """What the selection leaves."""
        labels = tuple(sorted(label for label, weight in selection.labels.items() if weight > 0))
        lists = (selection.families, selection.exclude_families, selection.exclude_flags)
        key = (bool(selection.labels), labels, selection.split, *map(tuple, lists))
        if key not in self._pools:
            self._pools[key] = Pool([entry for entry in self if _is_selected(entry, selection)])
        return _latest(self._pools, key)


def _latest(kept: OrderedDict[K, V], key: K) -> V:
    """What is kept under the key; what nobody has asked for the longest goes, where there is more than enough."""
    kept.move_to_end(key)
    if len(kept) > _KEPT:
        kept.popitem(last=False)
    return kept[key]


INDEX: Kind[Prompts] = Kind("index")
"""Every prompt of a recipe's inputs, by what tells that their shards are the same."""

_NAMES = ["id", "label", "split", "task", "family", "flags"]


def index(inputs: list[RunFolder], resources: Resources | None = None) -> Prompts:
    """Every prompt of the inputs, in order, from a projection without images.

    A recipe draws from the same prompts every turn: `resources` keep the list while the shards stay as they are.
    """
    shards = [(n, shard, p) for n, folder in enumerate(inputs) for shard, p in enumerate(folder.shard_paths())]
    if resources is None:
        return _read(shards)
    stats = [path.stat() for _, _, path in shards]
    marks = [[n, str(p), s.st_size, s.st_mtime_ns] for (n, _, p), s in zip(shards, stats, strict=True)]
    return resources.get(INDEX, digest(marks), lambda: _read(shards))


def _read(shards: list[tuple[int, int, Path]]) -> Prompts:
    """The prompts of these (folder, shard, path)."""
    from schemas.tables import PROMPTS
    from stages.core.runs.shards import read_columns

    tables = in_order(lambda shard: read_columns(shard[2], _NAMES, PROMPTS).select(_NAMES), shards, _THREADS)
    # Few labels, splits, tasks and families: each is held once.
    same: dict[Any, Any] = {}
    once = same.setdefault
    entries: list[Entry] = []
    for (folder, shard, _), table in zip(shards, tables, strict=True):
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        entries += [
            Entry(folder, shard, row, ident, once(label, label), once(split, split), once(task, task),
                  once(family, family), tuple(flags or ()))
            for row, (ident, label, split, task, family, flags) in enumerate(rows)
        ]  # fmt: skip
    return Prompts(entries)


def select(entries: Iterable[Entry], selection: Selection, *, moving: bool = False) -> list[Entry]:
    """The draw: at most `take` distinct prompts, label shares as weighted; InputError when none is left.

    With `moving` weights, other draws may have had others: a label then gives each draw the place of a whole one
    in its sequence, so that draws don't overlap whatever the weights were, until the label's prompts are used up.
    """
    prompts = entries if isinstance(entries, Prompts) else Prompts(entries)
    pool = prompts.pool(selection)
    missing = [label for label, weight in selection.labels.items() if weight > 0 and label not in pool.labels]
    if missing:
        known = ", ".join(pool.labels) or "none"
        raise InputError(f"no prompt of label {missing[0]!r} to select", f"labels there: {known}")
    if not pool.entries:
        raise InputError("the selection leaves no prompt", "check split, labels and exclude_families")
    return _draw(pool, selection, moving) if selection.take else list(pool.entries)


def _is_selected(entry: Entry, selection: Selection) -> bool:
    return (
        (not selection.labels or selection.labels.get(entry.label, 0) > 0)
        and selection.split in ("", entry.split)
        and (not selection.families or entry.family in selection.families)
        and entry.family not in selection.exclude_families
        and not set(entry.flags) & set(selection.exclude_flags)
    )


def _draw(pool: Pool, selection: Selection, moving: bool) -> list[Entry]:
    # Without weights there is one sequence of them all.
    pools = pool.labels if selection.labels else {"": pool.entries}
    weights = {label: selection.labels.get(label, 1.0) for label in pools}
    total = sum(weights.values())
    begin = selection.draw * selection.take
    used = dict.fromkeys(pools, begin if moving else 0)
    chosen: dict[str, Entry] = {}
    for slot in range(begin if moving else 0, begin + selection.take):
        # A golden-ratio walk spreads labels evenly, so every draw has its share and small weights get theirs.
        # From the middle of a slot: slot 0 would begin at 0, and so with the first label whatever its weight.
        label = _label_at((slot + 0.5) * _GOLDEN % 1.0 * total, weights)
        if slot >= begin:
            # A label's sequence is one permutation of its prompts after another.
            epoch, position = divmod(used[label], len(pools[label]))
            entry = pool.order(selection.seed, label, epoch)[position]
            # A label with few prompts may begin its next permutation within a draw; a group is made once.
            chosen.setdefault(entry.id, entry)
        used[label] += 1
    return list(chosen.values())


def _label_at(point: float, weights: dict[str, float]) -> str:
    for name, weight in weights.items():
        point -= weight
        if point < 0:
            return name
    # Rounding may leave a rest behind the last weight: it is the last label's.
    return name
