"""Sharded training with a real DeepSpeed, and with FSDP2: two processes train as one does."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.trainer_callback import CallbackHandler

from stages.core.runs.folder import RunFolder
from stages.models.load import load_policy
from stages.models.policy_ref import resolve_policy
from stages.train import trainer_isolation
from stages.train.parallel import zero
from stages.train.rl import start
from tests.support.cli import COSMO, environment
from tests.train.made import contents, steps, train, weights
from tests.train.parallel import (
    SETTINGS,
    TINY,
    assert_same,
    assert_two_runs_as_cold,
    ended_by,
    flags,
    live_bytes,
    moments,
    parallel_inputs,
    train_on_ranks,
)

RANKS, BYTES = 4, 4


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    policy = load_policy(resolve_policy(TINY), device="cpu")
    return parallel_inputs(policy, tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def alone(inputs: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    torch.set_num_threads(1)
    runs = tmp_path_factory.mktemp("alone")
    return {name: train(inputs[name], runs, **SETTINGS[name]) for name in inputs}


@pytest.fixture(scope="module")
def in_bfloat16(inputs: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The supervised run in one process, its layers in bfloat16."""
    torch.set_num_threads(1)
    return train(inputs["sft"], tmp_path_factory.mktemp("bfloat16"), **SETTINGS["sft"], autocast="bf16")


@pytest.mark.parametrize("parallel", ["ddp", "zero2", "zero3", "fsdp2"])
def test_layers_in_bfloat16_over_float32_weights(
    tmp_path: Path, inputs: dict[str, list[Path]], alone: dict[str, RunFolder], in_bfloat16: RunFolder, parallel: str
) -> None:
    """Near one process's run in bfloat16, nearer than that is to float32: rounding is the same, sums are not."""
    command = [*COSMO, "train", *map(str, inputs["sft"]), *flags("sft"), "--runs", "many", "--set", "autocast=bf16"]
    command += ["--nproc", "2", "--parallel", parallel]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    many = RunFolder.open(tmp_path / done.stdout.strip())
    losses = [[row.loss for row in steps(run)] for run in (in_bfloat16, alone["sft"], many)]
    assert losses[0] != losses[1]
    assert losses[2] == pytest.approx(losses[0], rel=5e-3)
    weights = load_file(many.path / "policy" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}


@pytest.mark.parametrize("parallel", ["zero2", "zero3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ranks_that_stay_read_nothing_again(
    tmp_path: Path, inputs: dict[str, list[Path]], parallel: str, dtype: str
) -> None:
    rate = {"float32": 2e-4, "bfloat16": 1e-4}[dtype]
    settings = {"parallel": parallel, "dtype": dtype, "learning_rate": rate, "epochs": 1, "checkpoint_steps": 0}
    assert_two_runs_as_cold(inputs["rl"], tmp_path, **{**SETTINGS["rl"], **settings})


@pytest.mark.parametrize("parallel", ["zero2", "zero3"])
def test_a_reference_lies_in_parts(tmp_path: Path, inputs: dict[str, list[Path]], parallel: str) -> None:
    """No rank has all of it, and its KL is that of one process that has."""
    same = {**SETTINGS["rl"], "ref_kl": 0.1, "ref_policy": TINY, "epochs": 1}

    def before() -> None:
        load = start.load_reference

        def looked_at(*given: Any) -> Any:
            policy = load(*given)
            assert all(isinstance(p, DTensor) for p in policy.model.parameters())
            return policy

        start.load_reference = looked_at

    one = train(inputs["rl"], tmp_path / "one", **same)
    assert_same(one, train_on_ranks(inputs["rl"], tmp_path / "many", before, **same, parallel=parallel))
    assert any(row.ref_kl for row in steps(one))


@pytest.mark.parametrize("parallel", ["ddp", "zero2", "zero3", "fsdp2"])
def test_masters_of_bfloat16_weights(tmp_path: Path, inputs: dict[str, list[Path]], parallel: str) -> None:
    """Two processes keep the float32 masters that one keeps: saved, and rounded into the weights."""
    same = {**SETTINGS["sft"], "dtype": "bfloat16", "learning_rate": 1e-5}
    one = train(inputs["sft"], tmp_path / "alone", **same)
    command = [*COSMO, "train", *map(str, inputs["sft"]), *flags("sft"), "--runs", "many", "--set", "dtype=bfloat16"]
    command += ["--set", "learning_rate=1e-5", "--nproc", "2", "--parallel", parallel]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    many = RunFolder.open(tmp_path / done.stdout.strip())
    assert [row.loss for row in steps(many)] == pytest.approx([row.loss for row in steps(one)], rel=5e-3)
    state, alone = map(moments, (many, one))
    # Under the names of parameters, which the file has not.
    model = load_policy(resolve_policy(str(many.path)), device="cpu", dtype="bfloat16").model
    weights = dict(model.named_parameters())
    assert state.keys() == alone.keys()
    masters = {name.removesuffix(".master"): value for name, value in state.items() if name.endswith(".master")}
    assert masters
    for name, master in masters.items():
        assert master.dtype == torch.float32
        assert torch.equal(weights[name], master.bfloat16())
        # Four steps of about the rate; gradients in bfloat16 are rough, and Adam takes their sign at first.
        assert float((master - alone[f"{name}.master"]).abs().max()) < 8e-5


@pytest.mark.parametrize("parallel", ["zero2", "zero3", "fsdp2"])
@pytest.mark.parametrize("objective", ["rl", "sft"])
def test_the_same_run(
    tmp_path: Path, inputs: dict[str, list[Path]], alone: dict[str, RunFolder], parallel: str, objective: str
) -> None:
    """RL over two rollouts loses a rank on the way: moments go through a checkpoint and from shards to shards."""
    command = [*COSMO, "train", *map(str, inputs[objective]), *flags(objective), "--runs", "many"]
    command += ["--nproc", "2", "--parallel", parallel]
    if objective == "rl":
        killed, why = ended_by(signal.SIGKILL, command, tmp_path, step=2)
        assert killed == 1
        assert "was killed by SIGKILL" in why
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Adam turns the rounding of a tiny gradient into a step of some size.
    assert_same(alone[objective], RunFolder.open(tmp_path / done.stdout.strip()), weight=2e-4)


@pytest.mark.parametrize("parallel", ["zero2", "zero3"])
def test_calls_in_a_row_are_one_to_the_bit(tmp_path: Path, inputs: dict[str, list[Path]], parallel: str) -> None:
    same = {**SETTINGS["rl"], "parallel": parallel, "epochs": 1}
    one = train_on_ranks(inputs["rl"], tmp_path / "one", **same)
    first = train_on_ranks(inputs["rl"][0], tmp_path / "two", **same)
    second = train_on_ranks(inputs["rl"][1], tmp_path / "two", **{**same, "policy": str(first.path)})
    assert contents(second) == contents(one)
    assert [row.loss for row in [*steps(first), *steps(second)]] == [row.loss for row in steps(one)]


class Spy(TorchDispatchMode):
    """The most that a rank has until its first step and after its last one, in bytes.

    It looks whenever something large is made. While an engine computes it looks away: ZeRO 3 gathers as much then as
    `stage3_max_live_parameters` allows.
    """

    def __init__(self, folder: Path, bucket: int) -> None:
        super().__init__()
        self.folder, self.bucket = folder, bucket
        self.computing, self.at, self.most = False, "start", {"start": 0, "end": 0}

    def __call__(self) -> None:
        """Look on from here to the end, at what is made from here on."""
        from deepspeed.runtime.engine import DeepSpeedEngine

        gc.freeze()
        # It would hide what is there before a trainer is.
        trainer_isolation.frozen_objects = nullcontext
        forward, step = DeepSpeedEngine.forward, DeepSpeedEngine.step

        def spied_forward(engine: Any, *args: Any, **kwargs: Any) -> Any:
            self.computing = True
            return forward(engine, *args, **kwargs)

        def spied_step(engine: Any, *args: Any, **kwargs: Any) -> Any:
            found = step(engine, *args, **kwargs)
            self.computing = False
            return found

        def spied_step_end(*args: Any, **kwargs: Any) -> Any:
            self.at, self.most["end"] = "end", 0
            return step_end(*args, **kwargs)

        step_end = CallbackHandler.on_step_end
        DeepSpeedEngine.forward, DeepSpeedEngine.step = spied_forward, spied_step
        CallbackHandler.on_step_end = spied_step_end
        self.__enter__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        # A look is a walk over all objects.
        made = isinstance(found, torch.Tensor) and found.numel() > 200_000 and "view" not in str(func)
        if made and not self.computing:
            self.most[self.at] = max(self.most[self.at], live_bytes(self.bucket))
            path = self.folder / f"{torch.distributed.get_rank()}.json"
            path.write_text(json.dumps(self.most), encoding="utf-8")
        return found


def test_no_rank_has_the_whole_at_the_start_or_the_end(
    tmp_path: Path, inputs: dict[str, list[Path]], alone: dict[str, RunFolder]
) -> None:
    """With its moments, which it gets from a run of one process."""
    one = alone["rl"]
    about = json.loads((Path(zero.__file__).parent / "zero3.json").read_text())["zero_optimization"]
    settings = {**SETTINGS["rl"], "parallel": "zero3", "epochs": 1, "policy": str(one.path), "updates_per_rollout": 1}
    # DeepSpeed reserves a bucket for gradients that a model as small as this never fills.
    spy = Spy(tmp_path, about["reduce_bucket_size"])
    train_on_ranks(inputs["rl"][1], tmp_path, spy, count=RANKS, **settings)
    sizes = {name: value.numel() for name, value in weights(one).items()}
    parameters, trained = sum(sizes.values()), sum(n for name, n in sizes.items() if not name.startswith("visual."))
    # Small ones ZeRO 3 keeps whole.
    small = sum(n for n in sizes.values() if n <= about["stage3_param_persistence_threshold"])
    part, moments, gradients = parameters / RANKS, 2 * trained / RANKS, trained / RANKS
    # Here the host's memory is the GPU's: what lies in parts before and after, and what DeepSpeed has of it. On a CPU
    # it copies its part of the weights once more. And what is whole: a parameter, as it is gathered and as it is laid.
    most = 2 * (part + moments) + 2 * gradients + small + 3 * max(sizes.values())
    for rank in range(RANKS):
        seen = json.loads((tmp_path / f"{rank}.json").read_text())
        assert all(0 < number <= BYTES * most for number in seen.values()), (seen, BYTES * most)
