"""LoRA: what it trains, what it saves, and how the next run goes on with the same adapters."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers

from schemas.tables import SCORED
from stages.core.stage import Resources
from stages.models.policy_ref import resolve_policy
from stages.train.config import LoraOptions
from stages.train.lora import targets
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


def with_adapters(base: str, run, folder):
    """The weights of a model with a run's adapters on it, as whoever has peft alone loads, merges and saves them."""
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    PeftModel.from_pretrained(model, str(run.path / "adapter")).merge_and_unload().save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def config_of(run) -> dict:
    return json.loads((run.path / "adapter" / "adapter_config.json").read_text())


def test_adapters_load_onto_the_model_that_they_began_with(tmp_path, shards, first):
    """Of the first run, and of the second, which moved them on: both are told apart from the first's base."""
    second = train(shards[1], tmp_path, **{**SETTINGS, "policy": str(first.path)})
    base = str(resolve_policy(TINY).folder)
    for run in (first, second):
        assert config_of(run)["base_model_name_or_path"] == base
        assert config_of(run)["r"] == RANK
        loaded, saved = with_adapters(base, run, tmp_path / run.path.name), weights(run)
        moved = [name for name in saved if not torch.equal(saved[name], tiny_weights()[name])]
        for name in moved:
            torch.testing.assert_close(loaded[name], saved[name], atol=2e-6, rtol=1e-5)
        assert moved
    # Each run's are its own.
    assert any(not torch.allclose(loaded[name], weights(first)[name], atol=1e-5) for name in moved)


def test_adapters_of_another_rank_begin_on_the_policy_that_they_were_put_on(tmp_path, shards, first):
    other = train(shards[1], tmp_path, **{**SETTINGS, "policy": str(first.path), "lora": LoraOptions(rank=2)})
    base = config_of(other)["base_model_name_or_path"]
    assert base == str((first.path / "policy").resolve())
    loaded, saved = with_adapters(base, other, tmp_path / "loaded"), weights(other)
    for name in saved:
        torch.testing.assert_close(loaded[name], saved[name], atol=2e-6, rtol=1e-5)


def test_where_the_adapters_began_nobody_knows_none_are_kept(tmp_path, shards, first):
    copied = tmp_path / "first"
    shutil.copytree(first.path, copied)
    shutil.rmtree(copied / "adapter")
    receipt = copied / "receipts" / "00000.json"
    record = json.loads(receipt.read_text())
    record["files"] = [f for f in record["files"] if not f["path"].startswith("adapter/")]
    receipt.write_text(json.dumps(record))
    second = train(shards[1], tmp_path / "runs", **{**SETTINGS, "policy": str(copied)})
    assert not (second.path / "adapter").exists()


def test_a_layer_that_returns_more_than_a_product_gets_no_adapter():
    """The router of Llama 4 is linear by its class and returns two tensors: an adapter can't add to both."""
    text = transformers.Llama4TextConfig(
        vocab_size=8,
        hidden_size=8,
        intermediate_size=8,
        intermediate_size_mlp=8,
        head_dim=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    names = targets(transformers.Llama4ForCausalLM(text))
    assert "model.layers.0.self_attn.q_proj" in names
    assert not any(name.endswith("router") for name in names)
