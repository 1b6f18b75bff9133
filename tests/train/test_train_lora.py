"""LoRA: what it trains, what it saves, and how the next run goes on with the same adapters."""

from __future__ import annotations

import pytest
import torch

from schemas.tables import SCORED
from stages.core.stage import Resources
from stages.train.config import LoraOptions
from tests.train.made import Stop, StopAfter, contents, scored_group, steps, tiny_weights, train, weights, write_shard

TINY = "tiny:qwen2_5_vl"
RANK = 3
SETTINGS = {"policy": TINY, "learning_rate": 1e-2, "updates_per_rollout": 2, "lora": LoraOptions(rank=RANK)}


@pytest.fixture(scope="module")
def shards(policies, tmp_path_factory):
    """Two rollouts of four groups."""
    groups = [scored_group(policies("qwen2_5_vl"), i, images=i % 4 != 3) for i in range(8)]
    folder = tmp_path_factory.mktemp("lora")
    return [write_shard(folder / f"part{k}.parquet", SCORED, groups[4 * k : 4 * k + 4]) for k in range(2)]


@pytest.fixture(scope="module")
def first(shards, tmp_path_factory):
    """The run on the first rollout, trained once: only to be read."""
    return train(shards[0], tmp_path_factory.mktemp("first"), **SETTINGS)


def assert_low_rank(after: dict[str, torch.Tensor]) -> None:
    """Whole weights under their own names; only linear layers of the language model differ, each by a low rank."""
    before = tiny_weights()
    assert after.keys() == before.keys()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert moved
    assert all(n.startswith("model.layers.") and n.endswith("_proj.weight") for n in moved), moved
    for name in moved:
        sizes = torch.linalg.svdvals(after[name] - before[name])
        assert (sizes[RANK:] < 1e-3 * sizes[0]).all(), name


def test_whole_weights_come_out_and_what_moved_has_low_rank(first):
    assert_low_rank(weights(first))


def test_the_next_run_moves_the_same_adapters_on(tmp_path, shards, first):
    """Two chained runs are one run over both rollouts, to rounding: their change has the rank of one."""
    whole = train(shards, tmp_path / "one", **SETTINGS)
    second = train(shards[1], tmp_path / "two", **{**SETTINGS, "policy": str(first.path)})
    assert_low_rank(weights(second))
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(second)[name], value, atol=2e-4, rtol=0)


def test_warm_equals_cold(tmp_path, shards):
    found = []
    for resources in (None, Resources()):
        runs = tmp_path / str(resources is None)
        first = train(shards[0], runs, resources=resources, **SETTINGS)
        second = train(shards[1], runs, resources=resources, **{**SETTINGS, "policy": str(first.path)})
        found.append((contents(second), steps(second)))
    assert found[0] == found[1]


def test_interrupted_it_ends_with_the_same_bits(tmp_path, shards):
    settings = {**SETTINGS, "checkpoint_steps": 1}
    whole = train(shards, tmp_path / "whole", **settings)
    with pytest.raises(Stop):
        train(shards, tmp_path / "cut", progress=StopAfter(3), **settings)
    assert contents(train(shards, tmp_path / "cut", **settings)) == contents(whole)


def test_another_rank_is_another_run_and_starts_with_adapters_of_its_own(tmp_path, shards, first):
    wider = {**SETTINGS, "policy": str(first.path), "lora": LoraOptions(rank=RANK + 2)}
    second = train(shards[1], tmp_path, **wider)
    before, after = weights(first), weights(second)
    name = next(n for n in before if not torch.equal(before[n], after[n]))
    assert torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3) == RANK + 2
