"""A training run that is killed goes on where its last checkpoint was, and ends as if nothing had happened."""

from __future__ import annotations

import signal

import pytest

from schemas.tables import PROMPTS, SCORED
from stages.core.stage import Silent
from tests.support.forked import exit_code
from tests.train.made import (
    Stop,
    StopAfter,
    contents,
    prompt_row,
    rejects,
    scored_group,
    steps,
    train,
    train_until_killed,
    write_shard,
)

TINY = "tiny:qwen2_5_vl"
RL = {"policy": TINY, "learning_rate": 1e-3, "updates_per_rollout": 3, "epochs": 2, "checkpoint_steps": 2}
SFT = {
    "objective": "sft", "policy": TINY, "learning_rate": 1e-3, "batch_size": 3, "steps": 6, "checkpoint_steps": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(policies, tmp_path_factory):
    """Two rollouts, one completion without a reward; and prompts, one with no completion to imitate."""
    folder = tmp_path_factory.mktemp("inputs")
    policy = policies("qwen2_5_vl")
    rows = [scored_group(policy, i) for i in range(7)] + [scored_group(policy, 8, rewards=[0.0, None, 1.0])]
    scored = [write_shard(folder / f"s{k}.parquet", SCORED, rows[k * 4 : k * 4 + 4]) for k in range(2)]
    prompts = [prompt_row(i, images=i % 2 == 0) for i in range(8)] + [prompt_row(9, reference_response=None)]
    return {"rl": scored, "sft": [write_shard(folder / "p.parquet", PROMPTS, prompts)]}


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """Both runs without interruption."""
    runs = tmp_path_factory.mktemp("whole")
    return {name: train(inputs[name], runs, **(RL if name == "rl" else SFT)) for name in inputs}


@pytest.mark.parametrize(
    ("objective", "stops"),
    [("rl", [0]), ("rl", [3]), ("rl", [6]), ("rl", [3, 4, 3]), ("sft", [1]), ("sft", [3]), ("sft", [2, 3])],
)
def test_interrupted_at_any_step_it_ends_with_the_same_bits(tmp_path, inputs, whole, objective, stops):
    settings = RL if objective == "rl" else SFT
    for n in stops:
        with pytest.raises(Stop):
            train(inputs[objective], tmp_path / "cut", progress=StopAfter(n), **settings)
    resumed = train(inputs[objective], tmp_path / "cut", **settings)
    assert contents(resumed) == contents(whole[objective])
    assert steps(resumed) == steps(whole[objective])
    assert rejects(resumed) == rejects(whole[objective]) != []
    assert list((resumed.path / "staging").iterdir()) == []


def test_it_goes_on_from_the_checkpoint_and_not_from_the_start(tmp_path, inputs):
    seen = []

    class Count(Silent):
        def advance(self, n: int = 1, **numbers: float | str) -> None:
            seen.extend([numbers["loss"]] if "loss" in numbers else [])

    with pytest.raises(Stop):
        train(inputs["rl"], tmp_path, progress=StopAfter(9), **RL)
    train(inputs["rl"], tmp_path, progress=Count(), **RL)
    assert len(seen) == 12 - 8


@pytest.mark.parametrize("objective", ["rl", "sft"])
def test_a_real_sigkill(tmp_path, inputs, whole, objective, capfd):
    settings = RL if objective == "rl" else SFT
    ended = exit_code(train_until_killed, inputs[objective], tmp_path / "cut", 5, settings)
    printed = capfd.readouterr()
    assert ended == -signal.SIGKILL, printed.err
    assert printed.out == ""
    resumed = train(inputs[objective], tmp_path / "cut", **settings)
    assert contents(resumed) == contents(whole[objective])
    assert steps(resumed) == steps(whole[objective])


def test_a_half_written_checkpoint_is_not_seen(tmp_path):
    import torch

    from stages.train.checkpoints import Checkpoints

    checkpoints = Checkpoints(tmp_path)
    (tmp_path / ".checkpoint-00000009-1").mkdir()
    assert checkpoints.last() is None
    checkpoints.save(2, {"model": {"w": torch.ones(2)}}, {"n": 2})
    checkpoints.save(4, {"model": {"w": torch.zeros(2)}}, {"n": 4})
    moment = checkpoints.last()
    assert moment.record == {"n": 4}
    assert torch.equal(checkpoints.tensors(moment, "model")["w"], torch.zeros(2))
    assert checkpoints.tensors(moment, "none") == {}
    assert len(list(tmp_path.glob("checkpoint-*"))) == 1


def test_a_disk_that_takes_no_more_is_said_as_one(tmp_path):
    """safetensors has an error of its own for it, without a number; what is half written is no checkpoint."""
    import errno
    import resource

    import torch

    from cosmo_cli.errors import explain
    from stages.core.errors import UNAVAILABLE
    from stages.train.checkpoints import Checkpoints

    checkpoints, before = Checkpoints(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            checkpoints.save(1, {"model": {"w": torch.ones(100_000)}}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert checkpoints.last() is None
    message, _, code = explain(caught.value, "train")
    assert code == UNAVAILABLE
    assert f"({tmp_path}): 390.6 KiB were to be written, " in message
    (tmp_path / ".checkpoint-00000001-1").mkdir()  # another process, which was killed
    # What was half written takes no room from the next one, whoever writes it.
    checkpoints.save(2, {"model": {"w": torch.ones(10)}}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-00000002"]
