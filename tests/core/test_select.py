"""Draws: pure functions of content and seed, shares as weighted, nothing lost."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.prompts import PromptRow
from schemas.tables import PROMPTS
from schemas.values import text_message
from stages.core.errors import InputError
from stages.core.runs.folder import RunFolder
from stages.core.runs.select import Entry, Selection, index, select
from stages.core.runs.shards import ShardFile
from stages.core.stage import Resources


def entries(sizes: dict[str, int], split: str = "train", **more: object) -> list[Entry]:
    made = []
    for label, count in sizes.items():
        for n in range(count):
            fields = {"family": None, "flags": (), **more}
            made.append(Entry(0, 0, len(made), f"{label}-{n}", label, split, "t", **fields))
    return made


@given(st.integers(0, 20), st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_draw_does_not_depend_on_the_order_of_the_input(draw: int, take: int, rng: random.Random) -> None:
    pool = entries({"a": 30, "b": 50})
    shuffled = rng.sample(pool, len(pool))
    selection = Selection(labels={"a": 0.3, "b": 0.7}, take=take, draw=draw)
    assert {e.id for e in select(pool, selection)} == {e.id for e in select(shuffled, selection)}


def test_draws_follow_the_weights_and_use_every_prompt_before_any_twice() -> None:
    pool = entries({"a": 40, "b": 40, "c": 10})
    seen: Counter[str] = Counter()
    shares: Counter[str] = Counter()
    for draw in range(10):
        for e in select(pool, Selection(labels={"a": 3.0, "b": 1.0}, take=8, draw=draw)):
            seen[e.id] += 1
            shares[e.label] += 1
    assert abs(shares["a"] - 60) <= 2
    assert shares["c"] == 0
    assert {seen[f"a-{n}"] for n in range(40)} <= {1, 2}
    assert {seen[f"b-{n}"] for n in range(40)} <= {0, 1}


def test_every_draw_has_its_share() -> None:
    pool = entries({"a": 500, "b": 500})
    for draw in range(20):
        chosen = select(pool, Selection(labels={"a": 0.75, "b": 0.25}, take=32, draw=draw))
        assert 7 <= sum(e.label == "b" for e in chosen) <= 9


def test_a_draw_holds_no_prompt_twice() -> None:
    chosen = select(entries({"a": 5}), Selection(take=32, draw=3))
    assert sorted(e.id for e in chosen) == [f"a-{n}" for n in range(5)]


def test_filters_and_their_errors() -> None:
    pool = [
        *entries({"a": 3}),
        *entries({"b": 2}, split="test"),
        *entries({"c": 2}, family="mirror"),
        *entries({"d": 2}, flags=("no_training",)),
    ]
    chosen = select(pool, Selection(split="train", exclude_families=["mirror"], exclude_flags=["no_training"]))
    assert {e.label for e in chosen} == {"a"}
    with pytest.raises(InputError, match="no prompt of label 'b'"):
        select(pool, Selection(split="train", labels={"a": 1.0, "b": 1.0}))
    with pytest.raises(InputError, match="leaves no prompt"):
        select(entries({"a": 1}), Selection(split="test"))


def write(path: Path, ids: list[str]) -> None:
    """A bare shard of prompts, by way of another file, as a shard is committed."""
    shard = ShardFile(path.with_suffix(".new"), PROMPTS)
    for n, ident in enumerate(ids):
        flags = ["odd"] if n % 2 else []
        message = text_message("user", ident, 0)
        row = PromptRow(id=ident, label="l", source="s", task="t", messages=[message], images=[], flags=flags)
        shard.add(row)
    shard.close()
    os.replace(shard.path, path)


def test_an_index_is_every_prompt_in_order_and_is_kept_while_the_shards_stay(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ["a0", "a1"])
    write(tmp_path / "b.parquet", ["b0"])
    folder, resources = RunFolder.open(tmp_path), Resources()
    found = index([folder], resources)
    assert [(e.folder, e.shard, e.row, e.id, e.flags) for e in found] == [
        (0, 0, 0, "a0", ()), (0, 0, 1, "a1", ("odd",)), (0, 1, 0, "b0", ()),
    ]  # fmt: skip
    assert found == index([folder])
    assert index([RunFolder.open(tmp_path)], resources) is found
    write(tmp_path / "b.parquet", ["c0"])
    assert [e.id for e in index([RunFolder.open(tmp_path)], resources)] == ["a0", "a1", "c0"]
