"""What a view knows of all groups of a run at once: who they are and what they earned, without words and images.

Read once a shard, and again only for shards that have landed since. What a filter needs beyond that (words, verdicts)
is read when it is asked for.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from stages.core.runs.folder import RunFolder

_PROMPT = ("id", "label", "task", "family", "harmful", "split")
_COMPLETION = ("reward", "finish_reason")
_QUERIES = 16
"""Answers to searches that are kept: a reader pages through one."""


@dataclass(slots=True)
class Part:
    """The groups of one shard, N of them."""

    path: Path
    columns: dict[str, np.ndarray[Any, Any]]
    """By name, shape (N,): texts of the prompt, and of the rewards `mean`, `low`, `high` (NaN without one), `count` and
    `errors`."""

    def __len__(self) -> int:
        return len(self.columns["id"])


@dataclass(slots=True)
class RunIndex:
    """All groups of a run, in order; N of them."""

    parts: list[Part] = field(default_factory=list)
    columns: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    """As a part's, of all shards."""
    _positions: dict[str, int] | None = None
    _answers: OrderedDict[tuple[str, str], np.ndarray[Any, Any]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self.columns.get("id", ()))

    def add_landed(self, folder: RunFolder) -> None:
        """Read the shards that were not there before. InputError for one that is damaged."""
        with self._lock:
            paths = folder.shard_paths()
            known = {part.path: part for part in self.parts}
            if [part.path for part in self.parts] == paths:
                return
            self.parts = [known.get(path) or Part(path, _read(path)) for path in paths]
            names = self.parts[0].columns if self.parts else {}
            self.columns = {name: np.concatenate([part.columns[name] for part in self.parts]) for name in names}
            self._positions = None
            self._answers.clear()

    def position(self, ident: str) -> int | None:
        """The position of the group with that id, or None."""
        if self._positions is None:
            self._positions = {text: n for n, text in enumerate(self.columns.get("id", ()))}
        return self._positions.get(ident)

    def rows(self, positions: list[int]) -> list[tuple[Path, list[int]]]:
        """Where groups lie: shards, each with ascending row numbers, in the order of shards."""
        found, begin = [], 0
        for part in self.parts:
            own = sorted(p - begin for p in positions if begin <= p < begin + len(part))
            if own:
                found.append((part.path, own))
            begin += len(part)
        return found

    def answer(self, kind: str, text: str, ask: Callable[[Path, str], Any]) -> np.ndarray[Any, Any]:
        """Which groups a question about their words is true of, shape (N,) of bool; `ask` says it of one shard."""
        with self._lock:
            key = (kind, text)
            if key not in self._answers:
                found = [ask(part.path, text) for part in self.parts]
                self._answers[key] = np.concatenate(found) if found else np.zeros(0, bool)
            self._answers.move_to_end(key)
            while len(self._answers) > _QUERIES:
                self._answers.popitem(last=False)
            return self._answers[key]


def _read(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """What an index has of one shard."""
    from stages.core.runs.shards import leaves, open_shard

    with open_shard(path, None) as file:
        found = leaves(
            file, lambda f: f[0] in _PROMPT or (f[0] == "completions" and f[1:2] != [] and f[1] in _COMPLETION)
        )
        table = file.read(columns=found)
    columns = {name: _texts(table, name) for name in _PROMPT}
    return columns | _rewards(table)


def _texts(table: pa.Table, name: str) -> np.ndarray[Any, Any]:
    if name not in table.column_names:
        return np.full(table.num_rows, "", object)
    if name == "harmful":
        kinds = {True: "harmful", False: "benign", None: ""}
        return np.array([kinds[value] for value in table.column(name).to_pylist()], object)
    return np.array([value or "" for value in table.column(name).to_pylist()], object)


def _rewards(table: pa.Table) -> dict[str, np.ndarray[Any, Any]]:
    """Mean, lowest and highest reward of each group, its completions and those of them that are errors."""
    import pyarrow.compute as pc

    n = table.num_rows
    empty = {name: np.full(n, np.nan) for name in ("mean", "low", "high")}
    nothing = {name: np.zeros(n, np.int64) for name in ("count", "errors")}
    if "completions" not in table.column_names or n == 0:
        return empty | nothing
    groups = table.column("completions").combine_chunks()
    flat = groups.flatten()
    owner = pc.list_parent_indices(groups).to_numpy()
    errors = np.array(pc.equal(flat.field("finish_reason"), "error").fill_null(False).to_numpy(zero_copy_only=False))
    counts = {
        "count": np.bincount(owner, minlength=n),
        "errors": np.bincount(owner[errors.astype(bool)], minlength=n),
    }
    if flat.type.get_field_index("reward") < 0:
        return empty | counts
    rewards = flat.field("reward").to_numpy(zero_copy_only=False).astype(float)
    known = ~np.isnan(rewards)
    own, rewards = owner[known], rewards[known]
    low, high = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(low, own, rewards)
    np.maximum.at(high, own, rewards)
    rewarded = np.bincount(own, minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(own, weights=rewards, minlength=n) / rewarded
    without = rewarded == 0
    low[without] = high[without] = np.nan
    return {"mean": mean, "low": low, "high": high} | counts


class Indexes:
    """The indexes of the runs that were looked at last, as far as their shards have landed."""

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._found: OrderedDict[str, RunIndex] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, key: str, folder: RunFolder) -> RunIndex:
        """The run's index. InputError for a shard that is damaged."""
        with self._lock:
            index = self._found.setdefault(key, RunIndex())
            self._found.move_to_end(key)
            while len(self._found) > self._most:
                self._found.popitem(last=False)
        index.add_landed(folder)
        return index
