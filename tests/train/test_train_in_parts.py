"""Sharded by fsdp2 no rank ever has the whole model: what is read, kept and written part by part is the same."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from stages.models.load import load_policy, save_policy
from stages.models.policy_ref import resolve_policy
from stages.train import processes
from stages.train.checkpoints import Checkpoints
from stages.train.config import LoraOptions, TrainConfig
from stages.train.parallel import fsdp, stream
from stages.train.parallel.fsdp import Fsdp
from tests.families import toys
from tests.train.made import KillAt, contents, steps, train, weights
from tests.train.parallel import (
    SETTINGS,
    TINY,
    assert_same,
    live_bytes,
    on_ranks,
    parallel_inputs,
    train_as_rank,
    train_on_ranks,
)

PARTS = {**SETTINGS["rl"], "parallel": "fsdp2", "epochs": 1}
RANKS, BYTES = 2, 4


@pytest.fixture(scope="module")
def inputs(policies, tmp_path_factory):
    """What the runs learn from."""
    return parallel_inputs(policies("qwen2_5_vl"), tmp_path_factory.mktemp("inputs"))["rl"]


@pytest.fixture(scope="module")
def first(inputs, tmp_path_factory):
    """A run over the first rollout, in parts."""
    return train_on_ranks(inputs[0], tmp_path_factory.mktemp("first"), **PARTS)


class Spy:
    """What a rank holds when its model is laid out, once it is loaded, and while it is saved, in bytes."""

    def __init__(self, folder: Path, placed_first: bool) -> None:
        self.folder, self.placed_first = folder, placed_first
        self.seen: dict[str, list[int]] = {"laid out": [], "loaded": [], "saved": []}

    def __call__(self) -> None:
        """Look on from here to the end. `placed_first` is the fault: the whole model, and then its parts."""
        rank, before = torch.distributed.get_rank(), live_bytes()

        def look(at: str) -> None:
            self.seen[at].append(live_bytes() - before)
            (self.folder / f"{rank}.json").write_text(json.dumps(self.seen), encoding="utf-8")

        def spied_shard(module, **how):
            look("laid out")
            fully_shard(module, **how)

        def shard_what_is_placed(layout, model, *given):
            model.to_empty(device="cpu")
            shard(layout, model, *given)

        shard = Fsdp._shard
        if self.placed_first:
            Fsdp._shard = shard_what_is_placed
        optimizer, whole = Fsdp.optimizer, stream.whole

        def spied_optimizer(*given):
            made = optimizer(*given)
            look("loaded")
            return made

        def spied_whole(value):
            found = whole(value)
            # A look is a walk over all objects: at the large ones alone.
            if value.numel() > 200_000:
                look("saved")
            return found

        fsdp.fully_shard, Fsdp.optimizer, stream.whole = spied_shard, spied_optimizer, spied_whole


@pytest.mark.parametrize("placed_first", [False, True])
def test_no_rank_ever_has_more_than_its_parts_and_a_layer(tmp_path, inputs, first, placed_first):
    settings = {**PARTS, "policy": str(first.path), "updates_per_rollout": 1, "checkpoint_steps": 0}
    train_on_ranks(inputs[1], tmp_path, Spy(tmp_path, placed_first), **settings)
    held = {name: value.numel() * BYTES for name, value in weights(first).items()}
    layers = {name.split(".layers.")[1].split(".")[0] for name in held if name.startswith("model.layers.")}
    layer = max(sum(n for name, n in held.items() if f"model.layers.{i}." in name) for i in layers)
    trained = sum(n for name, n in held.items() if not name.startswith("visual."))
    part = sum(held.values()) / RANKS
    moments = 2 * trained / RANKS
    # Rows that do not divide, buffers, and what the trainer has of a batch.
    little = sum(held.values()) / 20
    for rank in range(RANKS):
        seen = {at: max(n) for at, n in json.loads((tmp_path / f"{rank}.json").read_text()).items()}
        assert (seen["laid out"] > 2 * layer) if placed_first else (seen["laid out"] < layer), seen
        if not placed_first:
            assert seen["loaded"] <= part + moments + little, seen
            # What is written is whole, one tensor at a time.
            assert seen["saved"] <= part + moments + 2 * max(held.values()) + little, seen


def loaded_in_parts(folder: Path, source: str, dtype: str) -> None:
    """For a rank: a policy in parts equals the whole one, and is written as that is, in one file and in several."""
    config = TrainConfig(parallel="fsdp2", device="cpu")
    processes.join(config)
    ref, layout = resolve_policy(source), Fsdp(config)
    whole = load_policy(ref, device="cpu", dtype=dtype)
    with layout.constructing("cpu"):
        policy = load_policy(ref, device="cpu", dtype=dtype)
    assert all(isinstance(p, DTensor) for p in policy.model.parameters())
    assert ties(policy.model) == ties(whole.model)
    expected = dict(whole.model.named_parameters()) | dict(whole.model.named_buffers())
    found = dict(policy.model.named_parameters()) | dict(policy.model.named_buffers())
    assert found.keys() == expected.keys()
    assert all(torch.equal(stream.whole(found[n]), value) for n, value in expected.items())
    ids = torch.arange(4, 20)[None]
    with torch.no_grad():
        logits = [p.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits for p in (whole, policy)]
    assert torch.equal(*logits)
    third = sum(value.nbytes for value in expected.values()) // 3
    for largest in (10**9, third):
        written = folder / f"{torch.distributed.get_rank()}-{largest}"
        stream.write_policy(policy, layout.weights(policy.model), written, largest)
        if torch.distributed.get_rank() == 0 and largest > third:
            save_policy(whole.model, whole.processor, folder / "plain")
            assert_same_files(folder / "plain", written)
        elif torch.distributed.get_rank() == 0:
            assert_same_in_several(load_file(folder / "plain" / "model.safetensors"), written)


def assert_same_in_several(expected: dict[str, torch.Tensor], folder: Path) -> None:
    """A folder has these tensors, each in the file that its index names."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = {name: load_file(folder / name) for name in set(index["weight_map"].values())}
    assert len(files) in (3, 4, 5)
    assert {name for held in files.values() for name in held} == expected.keys() == index["weight_map"].keys()
    assert all(torch.equal(files[index["weight_map"][n]][n], value) for n, value in expected.items())
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in expected.values())


def ties(model) -> set[tuple[str, str]]:
    """Names of one and the same parameter."""
    named = list(model.named_parameters(remove_duplicate=False))
    return {(n, m) for n, p in named for m, q in named if n < m and p is q}


def assert_same_files(one: Path, other: Path) -> None:
    """Two folders with the same bytes."""
    assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in other.iterdir())
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


@pytest.mark.parametrize(("source", "dtype"), [(TINY, "float32"), ("tiny:llama", "bfloat16"), ("qwen3_moe", "float32")])
def test_what_is_read_and_written_in_parts_is_what_the_whole_has(tmp_path, source, dtype):
    """Experts lie one by one in the files and together in the model: they are converted on the way in and out."""
    if source == "qwen3_moe":
        source = str(toys.build(source, tmp_path / "toy"))
    assert on_ranks(tmp_path, loaded_in_parts, tmp_path, source, dtype) == [0, 0]


def test_calls_in_a_row_are_one_to_the_bit(tmp_path, inputs, first):
    one = train_on_ranks(inputs, tmp_path / "one", **PARTS)
    second = train_on_ranks(inputs[1], tmp_path / "two", **{**PARTS, "policy": str(first.path)})
    assert contents(second) == contents(one)
    assert [row.loss for row in [*steps(first), *steps(second)]] == [row.loss for row in steps(one)]


def test_killed_it_ends_with_the_same_bits(tmp_path, inputs, first):
    codes = on_ranks(tmp_path, killed_as_rank, inputs[0], tmp_path)
    assert -signal.SIGKILL in codes
    (kept,) = tmp_path.glob("train-*/staging/*.scratch/checkpoint-*")
    # Each rank its own parts: none of the files has a whole layer.
    assert len(list((kept / "model").iterdir())) == RANKS
    assert_parts_of_checkpoint(kept, first)
    assert contents(train_on_ranks(inputs[0], tmp_path, **PARTS)) == contents(first)


def killed_as_rank(inputs, runs: Path) -> None:
    """For a rank: rank 0 is killed after its second step, before that is kept."""
    train_as_rank(inputs, runs, lambda: None, KillAt(2), PARTS)


def assert_parts_of_checkpoint(kept: Path, run) -> None:
    """One process reads from it what it would have written."""
    checkpoints = Checkpoints(kept.parent)
    moment = checkpoints.last()
    found = checkpoints.tensors(moment, "model")
    # Names differ: the family's files have other ones than its class.
    assert sorted(v.shape for v in found.values()) == sorted(v.shape for v in weights(run).values())
    assert any(name.endswith(".exp_avg") for name in checkpoints.tensors(moment, "optimizer"))


def test_adapters_and_a_reference_in_parts(tmp_path, inputs):
    """Twice, so that adapters and their moments go through the trainer state; and a run of one process goes on."""
    same = {**SETTINGS["rl"], "lora": LoraOptions(rank=3), "ref_kl": 0.1, "ref_policy": TINY, "epochs": 1}
    parts = {**same, "parallel": "fsdp2"}
    firsts = [train(inputs[0], tmp_path / "a", **same), train_on_ranks(inputs[0], tmp_path / "b", **parts)]
    assert_same(*firsts, weight=2e-4)
    seconds = [
        train(inputs[1], tmp_path / "a", **{**same, "policy": str(firsts[0].path)}),
        train_on_ranks(inputs[1], tmp_path / "b", **{**parts, "policy": str(firsts[1].path)}),
    ]
    for one, other in zip(*map(steps, seconds), strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-3, abs=1e-4)
    assert all(torch.allclose(weights(seconds[1])[n], v, atol=2e-4) for n, v in weights(seconds[0]).items())
