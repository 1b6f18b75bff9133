"""What a recipe's phases carry from turn to turn: rates, Adam's moments, multipliers and the drift watch's window."""

from __future__ import annotations

import json
from itertools import chain

import pytest
from safetensors.torch import load_file

from cosmo_cli.recipe.run import step_values
from cosmo_cli.recipe.schema import parse
from cosmo_cli.recipe.steps import steps_of
from schemas.tables import PROMPTS, SCORED
from stages.core.config import build
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.train.config import TrainConfig
from stages.train.stage import STAGE
from tests.train.made import judged, prompt_row, scored_group, steps, train, write_shard

TURNS, UPDATES, WARMUP = 3, 2, 4
RATE = 1e-4
PHASE = {
    "iterations": TURNS,
    "prompts": 2,
    "labels": {"general": 1.0},
}
RECIPE = {
    "policy": "tiny:qwen2_5_vl",
    "train": {
        "device": "cpu",
        "learning_rate": RATE,
        "updates_per_rollout": UPDATES,
        "advantage": "lagrangian",
        # Two steps a turn: a window of three is full in the second turn of a phase, and never within one turn.
        "watch": {"window": 3, "least": 1, "sampler_mismatch": 0.001},
    },
    "phases": [
        {"name": "one", **PHASE, "train": {"warmup_steps": 2, "schedule_steps": 12}},
        {"name": "two", **PHASE, "train": {"optimizer": "fresh", "warmup_steps": WARMUP, "schedule_steps": 20}},
    ],
}


@pytest.fixture(scope="module")
def turns(policies, tmp_path_factory):
    """The trainings of two phases of three turns, as the recipe's steps make them, over made-up rollouts."""
    folder = tmp_path_factory.mktemp("phases")
    policy, recipe = policies("qwen2_5_vl"), parse(RECIPE)
    folders, runs = {}, []
    for number, step in enumerate(s for s in steps_of(recipe) if s.verb == "train"):
        rows = [scored_group(policy, 10 * number + i, rewards=[0.0, 1.0, 0.5], images=False) for i in range(2)]
        shard = write_shard(
            folder / f"{number}.parquet", SCORED, [judged(r, ["unsafe", "unsafe", "safe"]) for r in rows]
        )
        config = build(TrainConfig, step_values(recipe, step, folders), "train")
        result = run_stage(STAGE, config, [shard], options=Options(runs=folder))
        folders[step.name] = result.path
        runs.append(RunFolder.open(result.path))
    return runs


def per_turn(runs, value):
    """A fact of each run, phase by phase."""
    found = [value(run) for run in runs]
    return found[:TURNS], found[TURNS:]


def test_rates_go_on_through_a_phase_and_begin_again_where_it_is_fresh(turns):
    rates = [[row.learning_rate for row in steps(run)] for run in turns]
    first, second = list(chain(*rates[:TURNS])), list(chain(*rates[TURNS:]))
    assert first[:2] == pytest.approx([RATE / 2, RATE])
    assert first[2:] == sorted(first[2:], reverse=True)
    # The second phase's whole warm-up, over two of its turns, and then down from the peak.
    assert second[:WARMUP] == pytest.approx([RATE * (i + 1) / WARMUP for i in range(WARMUP)])
    assert RATE >= second[WARMUP] > second[WARMUP + 1] > 0.9 * RATE


def test_moments_and_step_counts_are_fresh_once_a_phase(turns):
    def adam_steps(run):
        state = load_file(run.path / "trainer" / "optimizer.safetensors")
        return {float(value) for name, value in state.items() if name.endswith(".step")}

    expected = [{float(UPDATES * (turn + 1))} for turn in range(TURNS)]
    assert per_turn(turns, adam_steps) == (expected, expected)
    state = per_turn(turns, lambda run: json.loads((run.path / "trainer" / "state.json").read_text()))
    assert [s["step"] for s in state[1]] == [2, 4, 6]
    assert [s["rollouts"] for s in state[1]] == [1, 2, 3]


def test_the_multiplier_rises_through_a_phase(turns):
    """Two of three completions are unsafe, the bound is 0.05: half of the difference a rollout, from 1."""
    one, two = per_turn(turns, lambda run: [row.cost_weight for row in steps(run)][-1])
    expected = [1.0 + 0.5 * (2 / 3 - 0.05) * (turn + 1) for turn in range(TURNS)]
    assert one == pytest.approx(expected)
    assert two == pytest.approx(expected)


def test_the_watch_looks_back_over_the_turns_of_its_phase(turns):
    """Its alarm needs three steps: it is silent in a phase's first turn, holds in later ones, and starts anew."""
    one, two = per_turn(turns, lambda run: [len(row.alarms) for row in steps(run)])
    assert one == two == [[0, 0], [1, 1], [1, 1]]


def test_a_run_without_a_schedule_of_its_own_length_has_one_from_its_first_step(tmp_path):
    """A second supervised run goes on with Adam's moments, and does not train at the floor of the first one's rate."""
    shard = write_shard(tmp_path / "p.parquet", PROMPTS, [prompt_row(i, images=False) for i in range(4)])
    settings = {"objective": "sft", "learning_rate": RATE, "batch_size": 2, "steps": 3}
    first = train(shard, tmp_path, policy="tiny:llama", **settings)
    second = train(shard, tmp_path, policy=str(first.path), **settings)
    rates = [[row.learning_rate for row in steps(run)] for run in (first, second)]
    assert rates[0] == rates[1]
    assert rates[0][0] == pytest.approx(RATE)
    assert [row.step for row in steps(second)] == [4, 5, 6]
