"""Seeded orders: the very orders that runs on disk were made with, whatever is refactored."""

from __future__ import annotations

import hashlib

from stages.core.runs.select import Entry, Selection, select
from stages.core.seeded import seeded_digest, seeded_order
from stages.prepare.mixing import rank_of
from stages.train.supervised.examples import permutations
from stages.train.supervised.pair_options import PairOptions
from stages.train.supervised.pairs import pairs_of

# As the first versions drew them; these orders are in every run on disk.
GOLDEN_DRAWS = [["a3", "b3", "a4", "a0", "b1"], ["a1", "a5", "a2", "a4", "b2"], ["a3", "a0", "b0", "a1", "b3"]]
GOLDEN_EPOCHS = ["dcbea", "bcdea", "decab"]
GOLDEN_RANK = "e1eab3c371e234f0"
GOLDEN_PAIRS = [(1, 0), (2, 3), (2, 0), (1, 3)]


def entries(labels: dict[str, int]) -> list[Entry]:
    return [
        Entry(0, 0, n, f"{label}{n}", label, "train", "t", None, ())
        for label, count in labels.items()
        for n in range(count)
    ]


def test_what_is_hashed_is_the_parts_joined_by_bars() -> None:
    assert seeded_digest(3, "general", 0, "id") == hashlib.sha256(b"3|general|0|id").digest()
    assert seeded_digest(3, (1, 2)) == hashlib.sha256(b"3|(1, 2)").digest()
    assert seeded_order(["a", "b", "c"], 3, name=lambda x: x) == sorted(
        "abc", key=lambda x: hashlib.sha256(f"3|{x}".encode()).digest()
    )


def test_golden_draws() -> None:
    pool = entries({"a": 6, "b": 4})
    drawn = [
        [e.id for e in select(pool, Selection(labels={"a": 2.0, "b": 1.0}, take=5, draw=draw, seed=7))]
        for draw in range(3)
    ]
    assert drawn == GOLDEN_DRAWS


def test_golden_epochs_ranks_and_pairs() -> None:
    epochs = permutations(list("abcde"), 11, lambda letter: letter)
    assert ["".join(next(epochs) for _ in range(5)) for _ in range(3)] == GOLDEN_EPOCHS
    assert rank_of(5, "builtin|3")[:16] == GOLDEN_RANK
    group = [{"reward": float(n % 3), "finish_reason": "stop", "text": str(n)} for n in range(5)]
    assert pairs_of(group, "p1", PairOptions(max_pairs=4), 2) == GOLDEN_PAIRS
