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
from stages.core.runs.select import Entry, Prompts, Selection, index, select
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


def test_a_label_of_no_weight_is_left_out_and_need_not_be_there() -> None:
    pool = entries({"a": 3, "b": 2})
    weights = {"a": 1.0, "b": 0.0, "c": 0.0}
    assert {e.label for e in select(pool, Selection(labels=weights))} == {"a"}
    assert {e.label for e in select(pool, Selection(labels=weights, take=9))} == {"a"}


def test_one_of_the_flags_is_enough_to_be_left_out() -> None:
    pool = [*entries({"a": 2}, flags=("odd", "no_training")), *entries({"b": 2}, flags=("odd",)), *entries({"c": 1})]
    chosen = select(pool, Selection(exclude_flags=["no_training", "late"]))
    assert {e.label for e in chosen} == {"b", "c"}


def test_another_seed_is_another_order_and_so_is_the_next_round_of_the_same_prompts() -> None:
    pool = entries({"a": 12})

    def drawn(**more: int) -> list[str]:
        return [e.id for e in select(pool, Selection(take=12, **more))]

    assert sorted(drawn()) == sorted(drawn(seed=1)) == sorted(drawn(draw=1)) == sorted(e.id for e in pool)
    assert drawn() == drawn(seed=0, draw=0)
    assert len({tuple(drawn(**more)) for more in ({}, {"seed": 1}, {"draw": 1}, {"draw": 2})}) == 4


@given(st.data())
def test_what_earlier_draws_left_behind_changes_no_draw(data: st.DataObject) -> None:
    """More selections than are kept, in any order, from one list and each from a list of its own."""
    kept = Prompts([*entries({"a": 7, "b": 5}), *entries({"c": 4}, split="test", flags=("odd",))])
    labels = st.dictionaries(st.sampled_from("ab"), st.sampled_from([0.5, 1.0, 3.0]))
    selections = st.builds(
        Selection,
        labels=labels,
        split=st.sampled_from(["", "train"]),
        take=st.integers(0, 9),
        draw=st.integers(0, 4),
        seed=st.integers(0, 20),
        exclude_flags=st.sampled_from([[], ["odd"]]),
    )
    for selection in data.draw(st.lists(selections, min_size=2, max_size=60)):
        moving = data.draw(st.booleans())
        assert select(kept, selection, moving=moving) == select(list(kept), selection, moving=moving)


def test_moving_weights_give_each_draw_the_place_of_a_whole_one() -> None:
    """Draw 2 of 4 is the third four of the label's sequence, whatever share of the earlier draws was the label's."""
    pool = entries({"a": 40, "b": 40})
    alone = [e.id for draw in range(4) for e in select(pool, Selection(labels={"a": 1.0}, take=4, draw=draw))]
    half = select(pool, Selection(labels={"a": 1.0, "b": 1.0}, take=4, draw=2), moving=True)
    ours = [e.id for e in half if e.label == "a"]
    assert 1 <= len(ours) <= 3
    assert ours == alone[8 : 8 + len(ours)]


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
