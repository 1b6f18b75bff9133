"""Constrained runs: lambda rises, is carried, outlives a kill. And what settings left to the loss make of a run."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from schemas.tables import PROMPTS, SCORED
from stages.core.errors import InputError
from stages.core.runner import Options, run_stage
from stages.core.stage import Resources
from stages.train.advantages.lagrangian import LAMBDA
from stages.train.config import TrainConfig
from stages.train.stage import STAGE
from tests.support.forked import exit_code
from tests.train.made import (
    Stop,
    StopAfter,
    contents,
    judged,
    prompt_row,
    scored_group,
    steps,
    train,
    train_until_killed,
    write_shard,
)

TINY = "tiny:qwen2_5_vl"
FAST = {"policy": TINY, "learning_rate": 1e-3, "updates_per_rollout": 2, "checkpoint_steps": 1}
CONSTRAINED = {
    **FAST,
    "advantage": "lagrangian",
    "advantages": {"lagrangian": {"bound": 0.25, "lr": 2.0, "start": 0.5}},
}
SAFE, UNSAFE = "safe_with_warning", "unsafe"
LAMBDAS = [0.5 + 2.0 * (0.75 - 0.25), 0.5 + 2.0 * (0.75 - 0.25) + 2.0 * (0.5 - 0.25), 1.5]


@pytest.fixture(scope="module")
def policy(policies):
    return policies("qwen2_5_vl")


@pytest.fixture(scope="module")
def rollouts(policy, tmp_path_factory):
    """Three rollouts of four groups; three quarters, half, and none of the completions are unsafe."""
    folder = tmp_path_factory.mktemp("rollouts")
    verdicts = [[UNSAFE, SAFE, UNSAFE, UNSAFE], [SAFE, UNSAFE, UNSAFE, SAFE], [SAFE] * 4]
    return [
        write_shard(folder / f"s{k}.parquet", SCORED, [judged(scored_group(policy, 4 * k + i), v) for i in range(4)])
        for k, v in enumerate(verdicts)
    ]


@pytest.fixture(scope="module")
def whole(rollouts, tmp_path_factory):
    """One run over all three."""
    return train(rollouts, tmp_path_factory.mktemp("whole"), **CONSTRAINED)


def carried(run):
    return json.loads((run.path / "trainer" / "state.json").read_text())["carried"]


def test_lambda_rises_above_the_bound_and_falls_below_it(whole):
    assert [r.cost_weight for r in steps(whole)] == [w for w in LAMBDAS for _ in range(2)]
    assert carried(whole) == {LAMBDA: LAMBDAS[-1]}


@pytest.mark.parametrize("warm", [False, True])
def test_k_calls_on_one_folder_each_equal_one_call_on_k_folders(tmp_path, rollouts, whole, warm):
    resources, chain, rows = (Resources() if warm else None), None, []
    for part in rollouts:
        settings = {**CONSTRAINED, "policy": str(chain.path) if chain else TINY}
        chain = train(part, tmp_path, resources=resources, **settings)
        rows += steps(chain)
    assert contents(chain) == contents(whole)
    assert rows == steps(whole)


@pytest.mark.parametrize("stops", [[2], [3, 1, 1]])
def test_interrupted_at_any_step_lambda_moves_once_a_rollout(tmp_path, rollouts, whole, stops):
    for n in stops:
        with pytest.raises(Stop):
            train(rollouts, tmp_path, progress=StopAfter(n), **CONSTRAINED)
    resumed = train(rollouts, tmp_path, **CONSTRAINED)
    assert contents(resumed) == contents(whole)
    assert steps(resumed) == steps(whole)


def test_a_real_sigkill_in_the_second_rollout(tmp_path, rollouts, whole):
    assert exit_code(train_until_killed, rollouts, tmp_path, 4, CONSTRAINED) == -signal.SIGKILL
    resumed = train(rollouts, tmp_path, **CONSTRAINED)
    assert contents(resumed) == contents(whole)
    assert steps(resumed) == steps(whole)


def test_lambda_waits_while_another_estimator_is_at_work_and_starts_anew_in_a_fresh_lineage(tmp_path, rollouts):
    first = train(rollouts[0], tmp_path, **CONSTRAINED)
    between = train(rollouts[1], tmp_path, **{**FAST, "policy": str(first.path)})
    assert carried(between) == carried(first) == {LAMBDA: LAMBDAS[0]}
    assert {r.cost_weight for r in steps(between)} == {None}
    settings = {**CONSTRAINED, "policy": str(between.path)}
    assert steps(train(rollouts[1], tmp_path, **settings))[0].cost_weight == LAMBDAS[1]
    fresh = train(rollouts[1], tmp_path, **settings, optimizer="fresh")
    assert steps(fresh)[0].cost_weight == 0.5 + 2.0 * (0.5 - 0.25)


def test_groups_flat_in_reward_are_learned_from_for_their_cost(tmp_path, policy):
    rows = [judged(scored_group(policy, i, rewards=[1.0] * 4), [SAFE, UNSAFE, SAFE, SAFE]) for i in range(3)]
    shard = write_shard(tmp_path / "s.parquet", SCORED, [*rows, scored_group(policy, 9, rewards=[1.0] * 4)])
    settings = {**CONSTRAINED, "updates_per_rollout": 1}
    (row,) = steps(train(shard, tmp_path, **settings))
    assert (row.groups, row.dropped_groups) == (4, 1)
    assert row.grad_norm > 0
    (row,) = steps(train(shard, tmp_path, accept_failure=True, **{**settings, "advantage": "group_norm"}))
    assert (row.groups, row.dropped_groups, row.grad_norm) == (4, 4, 0.0)


def test_a_rollout_that_no_safety_verifier_judged_is_an_error(tmp_path, policy):
    shard = write_shard(tmp_path / "s.parquet", SCORED, [scored_group(policy, i) for i in range(2)])
    with pytest.raises(InputError, match="safety verifier judged no completion"):
        train(shard, tmp_path, **CONSTRAINED)


@pytest.mark.parametrize("loss", ["dr_grpo", "dapo", "gspo", "rloo", "reinforce_pp", "cispo"])
def test_every_loss_trains_and_its_first_update_is_on_policy(tmp_path, rollouts, loss):
    rows = steps(train(rollouts[1], tmp_path, **FAST, loss=loss))
    assert rows[0].ratio_mean == pytest.approx(1.0, abs=1e-6)
    assert rows[0].clip_fraction == 0.0
    assert rows[1].ratio_mean != 1.0
    assert all(r.grad_norm > 0 for r in rows)


def fingerprint(inputs, tmp_path: Path, **settings) -> str:
    """The identity that a run of these settings would have."""
    config = TrainConfig(**{"policy": TINY, **settings})
    return run_stage(STAGE, config, [inputs], options=Options(runs=tmp_path, dry_run=True)).fingerprint


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {"aggregation": "group_tokens", "advantage": "group_norm", "clip_low": 0.2, "clip_high": 0.2}, True),
        ({"loss": "dapo"}, {"loss": "dapo", "aggregation": "global_tokens", "clip_high": 0.28}, True),
        ({"loss": "dapo"}, {"loss": "dapo", "clip_high": 0.2}, False),
        ({"clip": False}, {"clip": False, "clip_high": 0.3}, True),
        ({}, {"clip": False}, False),
        ({}, {"advantages": {"canon": {"a": 0.5}}}, True),
        ({"advantage": "canon"}, {"advantage": "canon", "advantages": {"canon": {"a": 0.5}}}, False),
        ({"advantage": "lagrangian"}, {"advantage": "lagrangian", "advantages": {"lagrangian": {"lr": 0.1}}}, False),
        ({"loss": "rloo"}, {"loss": "rloo", "advantage": "group_mean"}, False),
        ({}, {"losses": {"cpgd": {"drift_alpha": 0.0}}}, False),
        ({}, {"losses": {"cpgd": {"drift_alpha": 0.01, "drift_cap": 2.0}}}, True),
        ({"loss": "grpo"}, {"loss": "grpo", "losses": {"cpgd": {"drift_alpha": 0.0}}}, True),
    ],
)
def test_what_identifies_a_run_is_what_its_settings_come_to(tmp_path, rollouts, one, other, same):
    found = fingerprint(rollouts[0], tmp_path, **one), fingerprint(rollouts[0], tmp_path, **other)
    assert (found[0] == found[1]) is same


def test_what_is_for_rl_alone_does_not_identify_an_sft_run(tmp_path):
    shard = write_shard(tmp_path / "p.parquet", PROMPTS, [prompt_row(0)])
    one = fingerprint(shard, tmp_path, objective="sft")
    other = fingerprint(shard, tmp_path, objective="sft", clip=False, advantage="rloo", aggregation="sequence_sum")
    assert one == other
