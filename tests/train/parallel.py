"""Runs that several processes do: what they learn from, how they are compared, and how they are cut short."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.tensor import DTensor

from schemas.tables import PROMPTS, SCORED
from schemas.values import Image
from stages.core.runs.folder import RunFolder
from stages.core.stage import Resources
from stages.train import processes, setup
from stages.train.checkpoints import read_state
from stages.train.config import TrainConfig
from stages.train.objectives.base import Objective
from tests.support.cli import PATIENCE, complaint, environment
from tests.train.made import contents, prompt_row, rejects, scored_group, steps, train, weights, write_shard

_FORK = multiprocessing.get_context("fork")
TINY = "tiny:qwen2_5_vl"
# Steep enough to move, flat enough that rounding does not grow over the steps.
SETTINGS: dict[str, dict[str, Any]] = {
    "rl": {"policy": TINY, "learning_rate": 2e-4, "updates_per_rollout": 2, "epochs": 3, "checkpoint_steps": 1},
    "sft": {"objective": "sft", "policy": TINY, "learning_rate": 2e-4, "batch_size": 3, "steps": 4},
}


def flags(name: str) -> list[str]:
    """The settings as they are typed."""
    return [text for key, value in SETTINGS[name].items() for text in ("--set", f"{key}={value}")] + ["--device", "cpu"]


def parallel_inputs(policy: Any, folder: Path) -> dict[str, list[Path]]:
    """Two rollouts: groups of 2, 7 and 3 samples, the last of text alone; and a later one. Prompts, one unusable."""
    first = [
        scored_group(policy, 0, rewards=[0.0, 1.0]),
        scored_group(policy, 1, rewards=[0.0, 1.0, 0.5, 0.2, 0.0, 1.0, 0.3]),
        scored_group(policy, 2, rewards=[0.0, 1.0, 0.5], images=False),
    ]
    second = [scored_group(policy, 3), scored_group(policy, 4, rewards=[0.0, None, 1.0], images=False)]
    completions = [f"<think> {' '.join(['red'] * (1 + 3 * i))} </think> two" for i in range(7)]
    prompts = [prompt_row(i, images=i % 2 == 0, reference_response=completions[i]) for i in range(7)]
    prompts[4] = replace(prompts[4], images=[Image(b"no picture", "bad.png")])
    return {
        "rl": [write_shard(folder / "a.parquet", SCORED, first), write_shard(folder / "b.parquet", SCORED, second)],
        "sft": [write_shard(folder / "p.parquet", PROMPTS, prompts)],
    }


def moments(run: RunFolder) -> dict[str, torch.Tensor]:
    """The saved optimizer state, in one file or in several ranks'."""
    state = read_state(run.path / "trainer")
    assert state is not None
    return dict(state.tensors)


def assert_same(one: RunFolder, other: RunFolder, weight: float = 2e-5) -> None:
    """The same run, up to the order of sums."""
    for a, b in zip(steps(one), steps(other), strict=True):
        for field in fields(a):
            mine, theirs = getattr(a, field.name), getattr(b, field.name)
            expected = pytest.approx(mine, rel=1e-5, abs=1e-5) if isinstance(mine, float) else mine
            assert theirs == expected, (a.step, field.name)
    for held, found, limit in ((weights(one), weights(other), weight), (moments(one), moments(other), 1e-6)):
        assert held.keys() == found.keys()
        assert max(float((held[name] - found[name]).abs().max()) for name in held) < limit
    assert rejects(one) == rejects(other)
    for name in ("trainer/state.json", "policy/config.json"):
        assert (one.path / name).read_text() == (other.path / name).read_text()
    files = [sorted(p.name for p in (run.path / "policy").iterdir()) for run in (one, other)]
    assert files[0] == files[1]
    assert list((other.path / "staging").iterdir()) == []
    assert one.fingerprint == other.fingerprint


def live_bytes(ignored: int = -1) -> int:
    """Bytes of all the tensors that there are, what several are views of once; those of `ignored` numbers left out.

    Not of storages: a weight that was read is a view of its whole file, whose other pages nobody touches.
    """
    places: list[tuple[int, int]] = []
    for value in gc.get_objects():
        # Not `isinstance`: lazy modules would be imported by it.
        if issubclass(type(value), DTensor):
            value = value._local_tensor
        if type(value) in (torch.Tensor, torch.nn.Parameter) and not value.is_meta and value.numel() != ignored:
            places.append((value.data_ptr(), value.data_ptr() + value.nbytes))
    total, end = 0, 0
    for begin, until in sorted(places):
        total += max(0, until - max(begin, end))
        end = max(end, until)
    return total


def ended_by(number: signal.Signals, command: list[str], folder: Path, step: int) -> tuple[int, str]:
    """(exit code, the one line) of a run that gets a signal once it has kept this step; SIGKILL goes to one rank."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    keeps_step(process, folder, step)
    os.kill(children(process.pid)[-1] if number == signal.SIGKILL else process.pid, number)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, complaint(subprocess.CompletedProcess([], process.returncode, out, err))[0]


def keeps_step(process: subprocess.Popen[str], folder: Path, step: int) -> None:
    """Wait until a run has a checkpoint of this step, or a later one."""
    while not any(int(p.name.split("-")[1]) >= step for p in folder.glob("**/*.scratch/checkpoint-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def on_ranks(folder: Path, work: Callable[..., Any], *args: Any, count: int = 2) -> list[int]:
    """Exit codes of `work(*args)` in processes forked from this one that find each other as ranks."""
    address = folder / "ranks"
    address.unlink(missing_ok=True)
    children = [_FORK.Process(target=_as_rank, args=(rank, count, address, work, args)) for rank in range(count)]
    for child in children:
        child.start()
    while all(child.exitcode in (None, 0) for child in children) and any(child.is_alive() for child in children):
        time.sleep(0.02)
    for child in children:
        # What one has lost another waits for.
        if any(other.exitcode not in (None, 0) for other in children):
            child.kill()
        child.join()
    return [int(child.exitcode or 0) for child in children]


def train_on_ranks(
    inputs: Any,
    runs: Path,
    before: Callable[[], None] = lambda: None,
    progress: Any = None,
    count: int = 2,
    **settings: Any,
) -> RunFolder:
    """As `made.train`, by `count` ranks, each of which calls `before` first."""
    runs.mkdir(exist_ok=True)
    codes = on_ranks(runs, train_as_rank, inputs, runs, before, progress, settings, count=count)
    assert codes == [0] * count, codes
    # How many there were does not identify a run: it is there.
    return train(inputs, runs, **settings)


def _as_rank(rank: int, count: int, address: Path, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    from accelerate.state import AcceleratorState

    # What this process has trained alone.
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    if rank == 0:
        # The store takes a free port; a name for it has to be there whole.
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            os.environ["MASTER_PORT"] = str(found.getsockname()[1])
        address.with_suffix(".new").write_text(os.environ["MASTER_PORT"], encoding="utf-8")
        address.with_suffix(".new").rename(address)
    while not address.exists():
        time.sleep(0.01)
    os.environ["MASTER_PORT"] = address.read_text(encoding="utf-8")
    work(*args)


def train_as_rank(inputs: Any, runs: Path, before: Callable[[], None], progress: Any, settings: Any) -> None:
    """For a rank: its part of a run, after `before`."""
    config = TrainConfig(**{"device": "cpu", **settings})
    processes.join(config)
    before()

    def run() -> None:
        train(inputs, runs, progress=progress, **settings)

    processes.work(config, run, lambda error: 1)


def two_runs_as_rank(inputs: list[Path], runs: Path, may_read: bool, settings: dict[str, Any]) -> None:
    """For a rank that stays: one run after the other, the second going on from what the first one came to.

    Unless it `may_read`, the second one has to do with what it was left.
    """
    config = TrainConfig(**{"device": "cpu", **settings})
    resources = Resources()
    processes.join(config)

    def one(given: Path, **more: Any) -> None:
        def run() -> None:
            train(given, runs, resources=resources, **{**settings, **more})

        processes.work(config, run, lambda error: 1, resources)

    one(inputs[0])
    (first,) = runs.glob("train-*")
    if not may_read:
        setup.read_state = Objective.load = _refused  # type: ignore[assignment]
    one(inputs[1], policy=str(first))


def _refused(*_: Any, **__: Any) -> None:
    raise AssertionError("what is there already is read again")


def assert_two_runs_as_cold(inputs: list[Path], folder: Path, may_read: bool = False, **settings: Any) -> None:
    """Ranks that stay do two runs to the byte as ranks that are started for each."""
    for name in ("cold", "warm"):
        (folder / name).mkdir()
    codes = on_ranks(folder, two_runs_as_rank, inputs, folder / "warm", may_read, settings)
    assert codes == [0, 0]
    first = train_on_ranks(inputs[0], folder / "cold", **settings)
    second = train_on_ranks(inputs[1], folder / "cold", **{**settings, "policy": str(first.path)})
    for run in (first, second):
        there = RunFolder.open(folder / "warm" / run.path.name)
        assert contents(there) == contents(run)
        assert steps(there) == steps(run)


def children(parent: int) -> list[int]:
    """Process numbers of a process's children."""
    held = (p.read_text() for p in Path("/proc").glob("[0-9]*/stat"))
    return [int(text.split()[0]) for text in held if int(text.rpartition(")")[2].split()[1]) == parent]
