"""Two processes train as one does: the same rows and weights, whoever starts them and however they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from schemas.tables import PROMPTS, SCORED
from schemas.values import Image
from stages.core.errors import UsageError
from stages.core.folder import RunFolder
from stages.train.config import TrainConfig
from stages.train.parallel.split import Part, part_of, passes, portions
from stages.train.rollouts import Group, Sample, Update, micro_batches
from tests.support.cli import COSMO, complaint, cosmo, environment
from tests.train.made import prompt_row, rejects, scored_group, steps, train, weights, write_shard

TINY = "tiny:qwen2_5_vl"
RL = {"policy": TINY, "learning_rate": 1e-3, "updates_per_rollout": 2, "epochs": 3, "checkpoint_steps": 1}
RL_FLAGS = [
    "--policy", TINY, "--device", "cpu", "--learning-rate", "1e-3", "--updates", "2", "--epochs", "3",
    "--set", "checkpoint_steps=1",
]  # fmt: skip
SFT = {"objective": "sft", "policy": TINY, "learning_rate": 1e-3, "batch_size": 3, "steps": 4}
SFT_FLAGS = [
    "--objective", "sft", "--policy", TINY, "--device", "cpu", "--learning-rate", "1e-3", "--batch-size", "3",
    "--steps", "4", "--set", "micro_batch_size=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def inputs(policies, tmp_path_factory):
    """Two rollouts: groups of 2, 7 and 3 samples, the last of text alone; and a later one. Prompts, one unusable."""
    folder, policy = tmp_path_factory.mktemp("inputs"), policies("qwen2_5_vl")
    first = [
        scored_group(policy, 0, rewards=[0.0, 1.0]),
        scored_group(policy, 1, rewards=[0.0, 1.0, 0.5, 0.2, 0.0, 1.0, 0.3]),
        scored_group(policy, 2, rewards=[0.0, 1.0, 0.5], images=False),
    ]
    second = [scored_group(policy, 3), scored_group(policy, 4, rewards=[0.0, None, 1.0], images=False)]
    replies = [f"<think> {' '.join(['red'] * (1 + 3 * i))} </think> two" for i in range(7)]
    prompts = [prompt_row(i, images=i % 2 == 0, reference_response=replies[i]) for i in range(7)]
    prompts[4] = replace(prompts[4], images=[Image(b"no picture", "bad.png")])
    return {
        "rl": [write_shard(folder / "a.parquet", SCORED, first), write_shard(folder / "b.parquet", SCORED, second)],
        "sft": [write_shard(folder / "p.parquet", PROMPTS, prompts)],
    }


@pytest.fixture(scope="module")
def alone(inputs, tmp_path_factory):
    """Both runs in one process."""
    runs = tmp_path_factory.mktemp("alone")
    return {name: train(inputs[name], runs, **(RL if name == "rl" else SFT)) for name in inputs}


def moments(run: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(run.path / "trainer" / "optimizer.safetensors")


def assert_same(one: RunFolder, other: RunFolder, weight: float = 2e-5) -> None:
    """The same run, up to the order of sums."""
    for a, b in zip(steps(one), steps(other), strict=True):
        for field in fields(a):
            mine, theirs = getattr(a, field.name), getattr(b, field.name)
            expected = pytest.approx(mine, rel=1e-5, abs=1e-5) if isinstance(mine, float) else mine
            assert theirs == expected, (a.step, field.name)
    for held, given_, limit in ((weights(one), weights(other), weight), (moments(one), moments(other), 1e-6)):
        assert held.keys() == given_.keys()
        assert max(float((held[name] - given_[name]).abs().max()) for name in held) < limit
    assert rejects(one) == rejects(other)
    for name in ("trainer/state.json", "policy/config.json"):
        assert (one.path / name).read_text() == (other.path / name).read_text()
    assert sorted(p.name for p in (one.path / "policy").iterdir()) == sorted(
        p.name for p in (other.path / "policy").iterdir()
    )
    assert list((other.path / "staging").iterdir()) == []
    assert one.fingerprint == other.fingerprint


def test_ddp_on_unequal_groups_and_on_from_there_in_one_process(tmp_path, inputs, alone):
    done = cosmo("train", *inputs["rl"], *RL_FLAGS, "--runs", "many", "--nproc", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["train"]
    (line,) = done.stdout.splitlines()
    together = RunFolder.open(tmp_path / line)
    assert_same(alone["rl"], together)
    # One process takes it for its own, and goes on from its policy and its optimizer.
    assert train(inputs["rl"], tmp_path / "many", **RL).path == together.path
    after = [train(inputs["rl"], tmp_path / "on", **RL | {"policy": str(r.path)}) for r in (alone["rl"], together)]
    for a, b in zip(*map(steps, after), strict=True):
        assert (a.step, a.loss) == (b.step, pytest.approx(b.loss, rel=1e-3, abs=1e-3))
    assert steps(after[1])[0].step == len(steps(together)) + 1


def _until(process: subprocess.Popen[str], runs: Path, step: int) -> list[Path]:
    """Wait for a checkpoint of this step or a later one."""
    while process.poll() is None:
        found = sorted(runs.glob("train-*/staging/*.scratch/checkpoint-*"))
        if found and int(found[-1].name.split("-")[1]) >= step:
            return found
        time.sleep(0.02)
    raise AssertionError(process.communicate())


def _ranks(parent: int) -> list[int]:
    held = (p.read_text() for p in Path("/proc").glob("[0-9]*/stat"))
    return [int(text.split()[0]) for text in held if int(text.rpartition(")")[2].split()[1]) == parent]


def test_fsdp2_through_a_killed_rank_and_sigterm_with_the_same_command(tmp_path, inputs, alone):
    """The first start loses a rank, the second is asked to stop, the third ends as if nothing had happened."""
    command = [*COSMO, "train", *map(str, inputs["rl"]), *RL_FLAGS, "--runs", str(tmp_path), "--nproc", "2"]
    command += ["--parallel", "fsdp2"]
    said = []
    for number, step in ((signal.SIGKILL, 1), (signal.SIGTERM, 3)):
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        _until(process, tmp_path, step)
        os.kill(_ranks(process.pid)[-1] if number == signal.SIGKILL else process.pid, number)
        out, err = process.communicate(timeout=120)
        said.append((process.returncode, complaint(subprocess.CompletedProcess([], process.returncode, out, err))[0]))
    (killed, why), (stopped, where) = said
    assert (killed, stopped) == (1, 143)
    assert "was killed by SIGKILL" in why
    assert "stopped after step" in where
    (kept,) = tmp_path.glob("train-*/staging/*.scratch/checkpoint-*")
    assert where.endswith(f"step {int(kept.name.split('-')[1])}, which is kept")
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_same(alone["rl"], RunFolder.open(Path(done.stdout.strip())))


def test_sft_under_torchrun_with_unequal_replies(tmp_path, inputs, alone):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "cosmo_cli", "train", *map(str, inputs["sft"]), *SFT_FLAGS, "--runs", "many"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert_same(alone["sft"], RunFolder.open(tmp_path / done.stdout.strip()))


def test_what_several_processes_can_not_do_is_said_before_they_start(tmp_path, inputs):
    message, hint = complaint(cosmo("train", *inputs["rl"], *RL_FLAGS, "--nnodes", 2, cwd=tmp_path))
    assert "2 machines" in message
    assert "--rdzv" in hint
    with pytest.raises(UsageError, match="one process"):
        train(inputs["rl"], tmp_path, objective="reward", policy="tiny:llama", nproc=2)


class Prompt:
    """What `split` reads of a row."""

    def __init__(self, tokens: int, images: bool) -> None:
        self.prompt_token_ids, self.images = [0] * tokens, ["picture"] * images


class Reply:
    def __init__(self, tokens: int) -> None:
        self.token_ids = [0] * tokens


GROUPS = st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.lists(st.integers(1, 30), min_size=1)), max_size=9)


@given(GROUPS, st.integers(1, 5), st.booleans(), st.integers(20, 90))
def test_every_sample_is_done_once_and_all_meet(made, count, lockstep, budget):
    groups = [
        Group(Prompt(tokens, images), [Sample(Reply(n), 1.0, 0.1) for n in replies], live=True)
        for tokens, images, replies in made
    ]
    update = Update(0, groups)
    parts = [
        part_of(update, lambda u: micro_batches(u, budget, share=False), Part(rank, count, lockstep))
        for rank in range(count)
    ]
    done = [s for micros in parts for micro in micros for s in micro.samples if s.weight]
    assert sorted(map(id, done)) == sorted(id(s) for g in groups for s in g.samples)
    if count > 1 and groups:
        assert all(parts)
    if count > 1 and lockstep:
        assert len({len(micros) for micros in parts}) == 1
        seen = {any(g.row.images for g, _ in micro.parts) for micros in parts for micro in micros}
        assert seen == ({any(g.row.images for g in groups)} if groups else set())


@given(st.integers(0, 30), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_every_example_is_done_once_and_steps_stay_together(examples, batch, micro, count):
    parts = [portions(range(examples), batch, micro, Part(rank, count, lockstep=False)) for rank in range(count)]
    assert len({len(p) for p in parts}) == 1
    assert sorted(i for p in parts for portion in p for i in portion.mine) == list(range(examples))
    for together in zip(*parts, strict=True):
        assert len({portion.step for portion in together}) == 1
        assert all(set(portion.mine) <= set(portion.step) for portion in together)
    full = passes(batch, micro, count)
    steps_of = {}
    for portion in parts[0]:
        steps_of.setdefault(portion.step, []).append(portion)
    assert all(len(held) == full for step, held in steps_of.items() if len(step) == batch)


def test_none_of_it_identifies_a_run():
    from stages.core.config import key_of

    many = TrainConfig(nproc=8, nnodes=2, rdzv="host:1", parallel="zero3")
    assert json.dumps(key_of(many)) == json.dumps(key_of(TrainConfig()))
