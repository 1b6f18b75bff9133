"""Two processes train as one does: the same rows and weights, whoever starts them and however they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import UsageError
from stages.core.runs.folder import RunFolder
from stages.train.config import TrainConfig
from stages.train.parallel.split import Part, part_of, passes, portions
from stages.train.rl.batches import Group, TrainCompletion, Update, micro_batches
from tests.support.cli import COSMO, PATIENCE, complaint, cosmo, environment
from tests.support.forked import cosmo_forked
from tests.train.made import steps, train
from tests.train.parallel import SETTINGS, assert_same, children, ended_by, flags, keeps_step, parallel_inputs


@pytest.fixture(scope="module")
def inputs(policies, tmp_path_factory):
    """What both kinds of runs learn from."""
    return parallel_inputs(policies("qwen2_5_vl"), tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def alone(inputs, tmp_path_factory):
    """Both runs in one process."""
    runs = tmp_path_factory.mktemp("alone")
    return {name: train(inputs[name], runs, **SETTINGS[name]) for name in inputs}


def stopped_by_sigterm(command, folder, runs):
    """It ends with 143 and says which step is kept: the one of its checkpoint."""
    stopped, where = ended_by(signal.SIGTERM, command, folder, step=2)
    assert stopped == 143
    (kept,) = folder.glob(f"{runs}/train-*/staging/*.scratch/checkpoint-*")
    assert where.endswith(f"stopped after step {int(kept.name.split('-')[1])}, which is kept")


def test_ddp_on_unequal_groups_through_sigterm_and_on_from_there_in_one_process(tmp_path, inputs, alone):
    """Asked to stop in mid-run, it is where one process is once the same command has been given again."""
    command = [*COSMO, "train", *map(str, inputs["rl"]), *flags("rl"), "--runs", "many", "--nproc", "2"]
    stopped_by_sigterm(command, tmp_path, "many")
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Neither rank says anything but what one process would.
    assert {line.split(":")[0] for line in done.stderr.splitlines()} == {"train"}
    (line,) = done.stdout.splitlines()
    together = RunFolder.open(tmp_path / line)
    assert_same(alone["rl"], together)
    # One process takes it for its own, and goes on from its policy and its optimizer.
    assert train(inputs["rl"], tmp_path / "many", **SETTINGS["rl"]).path == together.path
    shorter = {**SETTINGS["rl"], "epochs": 1, "checkpoint_steps": 0}
    on = [
        train(inputs["rl"], tmp_path / "on", **{**shorter, "policy": str(run.path)}) for run in (alone["rl"], together)
    ]
    assert steps(on[1])[0].step == len(steps(together)) + 1
    for a, b in zip(*map(steps, on), strict=True):
        assert b.loss == pytest.approx(a.loss, rel=1e-3, abs=1e-3)


def test_sigterm_in_one_process_keeps_the_step_in_hand(tmp_path, inputs, alone):
    words = ["train", *map(str, inputs["rl"]), *flags("rl"), "--runs", "one"]
    stopped_by_sigterm([*COSMO, *words], tmp_path, "one")
    done = cosmo_forked(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on after step" in done.stderr
    assert_same(alone["rl"], RunFolder.open(tmp_path / done.stdout.strip()))


def test_a_second_sigterm_ends_ranks_whose_step_does_not(tmp_path, inputs):
    """One of them stands still, and the other waits for it."""
    words = ["train", *map(str, inputs["rl"]), *flags("rl"), "--set", "epochs=4000", "--nproc", "2"]
    launcher = subprocess.Popen(
        [*COSMO, *words], cwd=tmp_path, env=environment(TMPDIR=str(tmp_path)), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    keeps_step(launcher, tmp_path, 1)
    ranks = children(launcher.pid)
    os.kill(ranks[-1], signal.SIGSTOP)
    launcher.terminate()
    while not list(tmp_path.glob("cosmo-*/stop")):
        time.sleep(0.02)
    launcher.terminate()
    out, err = launcher.communicate(timeout=PATIENCE)
    assert launcher.returncode == 143, err
    message, hint = complaint(subprocess.CompletedProcess([], 143, out, err))
    assert "stopped by a second SIGTERM" in message
    assert "the same command" in hint
    assert len(ranks) == 2
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)


def test_ddp_where_a_rank_has_nothing_that_moves(tmp_path, inputs):
    """The language model is frozen and a rank's micro-batch holds no image: it would give no gradient to wait for."""
    eyes = ["--set", "policy=tiny:internvl", "--set", "freeze_language=true", "--set", "micro_batch_size=1"]
    words = ["train", *map(str, inputs["sft"]), *flags("sft"), *eyes]
    runs = []
    for count in ("1", "2"):
        done = cosmo(*words, "--runs", count, "--nproc", count, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        runs.append(RunFolder.open(tmp_path / done.stdout.strip()))
    assert_same(*runs)


def test_fsdp2_on_unequal_completions_under_torchrun(tmp_path, inputs, alone):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    more = ["--set", "micro_batch_size=1", "--parallel", "fsdp2", "--runs", "many"]
    done = subprocess.run(
        [*torchrun, "-m", "cosmo_cli", "train", *map(str, inputs["sft"]), *flags("sft"), *more],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert_same(alone["sft"], RunFolder.open(tmp_path / done.stdout.strip()))


def test_what_several_processes_can_not_do_is_said_before_they_start(tmp_path, inputs):
    message, hint = complaint(cosmo("train", *inputs["rl"], *flags("rl"), "--nnodes", 2, cwd=tmp_path))
    assert "--nnodes > 1 needs --rdzv HOST:PORT" in message
    assert "--rdzv" in hint
    with pytest.raises(UsageError, match="one process"):
        train(inputs["rl"], tmp_path, objective="reward", policy="tiny:llama", nproc=2)


class Prompt:
    """What `split` reads of a row."""

    def __init__(self, tokens: int, images: bool) -> None:
        self.prompt_token_ids, self.images = [0] * tokens, ["picture"] * images


class ParsedCompletion:
    def __init__(self, tokens: int) -> None:
        self.token_ids = [0] * tokens


GROUPS = st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.lists(st.integers(1, 30), min_size=1)), max_size=9)


@given(GROUPS, st.integers(1, 5), st.booleans(), st.integers(20, 90))
def test_every_sample_is_done_once_and_all_meet(made, count, lockstep, budget):
    groups = [
        Group(Prompt(tokens, images), [TrainCompletion(ParsedCompletion(n), 1.0, 0.1) for n in completions], live=True)
        for tokens, images, completions in made
    ]
    update = Update(0, groups)
    parts = [
        part_of(update, lambda u: micro_batches(u, budget, share=False), Part(rank, count, lockstep))
        for rank in range(count)
    ]
    done = [s for micros in parts for micro in micros for s in micro.completions if s.weight]
    assert sorted(map(id, done)) == sorted(id(s) for g in groups for s in g.completions)
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
    assert sorted(i for p in parts for portion in p for i in portion.own) == list(range(examples))
    for together in zip(*parts, strict=True):
        assert len({portion.step for portion in together}) == 1
        assert all(set(portion.own) <= set(portion.step) for portion in together)
    full = passes(batch, micro, count)
    steps_of = {}
    for portion in parts[0]:
        steps_of.setdefault(portion.step, []).append(portion)
    assert all(len(held) == full for step, held in steps_of.items() if len(step) == batch)


def test_none_of_it_identifies_a_run():
    from stages.core.config import key_of

    many = TrainConfig(nproc=8, nnodes=2, rdzv="host:1", parallel="zero3")
    assert json.dumps(key_of(many)) == json.dumps(key_of(TrainConfig()))
