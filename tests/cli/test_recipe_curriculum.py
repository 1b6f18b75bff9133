"""The curriculum of a recipe: references by their place, weights that follow the reward, lengths, the watch."""

from __future__ import annotations

import copy
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmo_cli.recipe.planning.disk_estimate import estimate
from cosmo_cli.recipe.progress import turn_numbers
from cosmo_cli.recipe.retention import prune
from cosmo_cli.recipe.run import run_recipe, step_values
from cosmo_cli.recipe.schema import Retention, parse
from cosmo_cli.recipe.steps import FOLLOWED_TURNS, Step, command_line, steps_of
from cosmo_cli.recipe.tables import Ref
from cosmo_cli.terminal.output import Output
from schemas.rollouts import Sampling
from schemas.scored import ScoredCompletion, ScoredGroup, Term
from schemas.tables import SCORED, STEPS
from stages.core.atomic import read_json
from stages.core.config import assign, build, parse_assignment
from stages.core.errors import CosmoError, InputError, UsageError
from stages.core.runner import Options, Result, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.runs.select import Entry, Selection, select
from stages.core.stage_list import load_config, load_stage
from stages.rollout.adaptive_weights import LEAST_NEED, adapted_weights, reward_shares
from tests.eval.made import group, scored_run, step, steps_run
from tests.support.varied import NAME

LABELS = {"general": 0.5, "safety": 0.5}
SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "policy": "tiny:qwen2_5_vl",
    "prepare": {"sources": [{"name": "builtin", "train": 120, "test": 20}]},
    "rollout": {"samples": 2, "max_new_tokens": 6},
    "score": {"rewards": {label: {"terms": {NAME: 1.0}} for label in ("general", "safety")}},
    "train": {"updates_per_rollout": 1, "learning_rate": 1e-4, "ref_kl": 0.001, "drop_flat_groups": False},
    "phases": [
        {"name": "one", "iterations": 1, "prompts": 4, "labels": {"general": 1.0}},
        {"name": "two", "iterations": 2, "prompts": 6, "labels": LABELS, "follow_reward": 0.8},
    ],
}


def changed(**phase: Any) -> dict[str, Any]:
    """The recipe with changes to its second phase."""
    values = copy.deepcopy(SMALL)
    values["phases"][1] |= phase
    return values


def overrides(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {s.name: s.overrides for s in steps_of(parse(values))}


# References of the KL.


def test_a_phase_is_held_to_the_policy_it_began_with() -> None:
    found = overrides(SMALL)
    assert found["one_1"]["ref_policy"] == "tiny:qwen2_5_vl"
    assert found["two_1"]["ref_policy"] == found["two_2"]["ref_policy"] == Ref("one_1")
    assert found["two_2"]["policy"] == Ref("two_1")
    assert overrides(changed(train={"ref_policy": "phase"}))["two_2"]["ref_policy"] == Ref("one_1")
    assert overrides(changed(train={"ref_policy": "start"}))["two_2"]["ref_policy"] == "tiny:qwen2_5_vl"
    assert overrides(changed(train={"ref_policy": "tiny:llama"}))["two_2"]["ref_policy"] == "tiny:llama"
    assert "ref_policy" not in overrides(changed(train={"ref_kl": 0.0}))["two_1"]
    line = command_line(
        next(s for s in steps_of(parse(SMALL)) if s.name == "two_2"), parse(SMALL), Path("r"), Path("o")
    )
    assert "--set \"ref_policy='$one_1'\"" in line


def test_a_reference_that_is_still_needed_is_not_pruned(tmp_path: Path) -> None:
    made = []
    for n in range(4):
        folder = steps_run(tmp_path, [step(n + 1)])
        (folder.path / "policy").mkdir()
        made.append((Step("train", f"t{n}", [], iteration=n + 1, iterations=4), folder.path))
    prune(Retention(policies=1, phase_ends=False), made, needed=[made[1][1]])
    assert [(p / "policy").exists() for _, p in made] == [False, True, False, True]
    prune(Retention(policies=1, phase_ends=False), made)
    assert [(p / "policy").exists() for _, p in made] == [False, False, False, True]


# Weights that follow the reward.


def test_a_turn_follows_the_last_turns_of_its_phase() -> None:
    found = overrides(changed(iterations=7))
    assert "select.adapt_to" not in found["two_1_groups"]
    assert found["two_2_groups"]["select.adapt_to"] == [Ref("two_1_scored")]
    assert found["two_7_groups"]["select.adapt_to"] == [Ref(f"two_{n}_scored") for n in range(7 - FOLLOWED_TURNS, 7)]
    assert found["two_7_groups"]["select.adapt_strength"] == 0.8
    assert found["two_7_groups"]["select.labels"] == LABELS
    assert "select.adapt_to" not in overrides(changed(follow_reward=0.0))["two_2_groups"]
    with pytest.raises(UsageError, match="no label weights to move"):
        parse(changed(labels={}))


shares = st.dictionaries(st.sampled_from("abcd"), st.floats(0.0, 1.0), min_size=1)
weights = st.dictionaries(st.sampled_from("abcd"), st.floats(0.05, 10.0), min_size=2)


@given(weights, shares, st.floats(0.0, 1.0))
def test_weights_stay_a_mix_and_keep_every_label(labels, known, strength) -> None:
    moved = adapted_weights(labels, known, strength)
    assert sum(moved.values()) == pytest.approx(1.0, abs=1e-5)
    assert moved.keys() == labels.keys()
    total = sum(labels.values())
    assert all(moved[k] >= LEAST_NEED * w / total - 1e-5 for k, w in labels.items())
    assert adapted_weights(labels, known, 0.0) == pytest.approx({k: w / total for k, w in labels.items()}, abs=1e-5)
    assert adapted_weights(labels, dict.fromkeys(labels, 0.3), strength) == pytest.approx(
        {k: w / total for k, w in labels.items()}, abs=1e-5
    )


@given(st.floats(0.0, 0.85), st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_the_label_with_less_reward_gets_more(low, gap, strength) -> None:
    moved = adapted_weights({"a": 1.0, "b": 1.0}, {"a": low, "b": min(1.0, low + gap)}, strength)
    assert moved["a"] > 0.5 > moved["b"]
    assert moved["a"] >= adapted_weights({"a": 1.0, "b": 1.0}, {"a": low, "b": min(1.0, low + gap)}, strength / 2)["a"]


def scored(label: str, n: int, terms: list[Term]) -> ScoredGroup:
    made = [
        ScoredCompletion(
            index=i,
            text="two",
            token_ids=[1],
            logprobs=[-0.5],
            finish_reason="stop",
            sampling=Sampling(1.0, 1.0, 0, 8, 0),
            policy_id="p",
            engine="made",
            terms=terms,
            reward=sum(t.weight * (t.value or 0.0) for t in terms),
        )
        for i in range(2)
    ]
    return group(f"{label} {n}", made, label=label)


def test_shares_are_of_what_the_terms_could_have_paid(tmp_path: Path) -> None:
    rows = [
        scored("safety", 0, [Term("format", 1.0, 1.0), Term("safety", 1.0, 0.1)]),
        scored("knowledge", 0, [Term("format", 1.0, 1.0), Term("knowledge", 1.0, 0.0), Term("helpful", 0.5, 1.0)]),
        scored("knowledge", 1, [Term("format", 1.0, 1.0), Term("knowledge", 1.0, None), Term("helpful", 0.5, None)]),
        scored("instruction", 0, [Term("instruction", 1.0, None)]),
    ]
    found = reward_shares([scored_run(tmp_path, rows)])
    # Nothing applied to the instruction row: nothing is known of that label.
    assert found == pytest.approx({"safety": 1.1 / 2, "knowledge": (1.5 + 1.0) / (2.5 + 1.0)})


def test_draws_with_moving_weights_do_not_overlap() -> None:
    pool = [Entry(0, 0, n, f"{x}{n}", x, "train", "t", None, ()) for x in "ab" for n in range(100)]
    seen: set[str] = set()
    for draw, share in enumerate((0.5, 0.9, 0.1, 0.7, 0.3)):
        selection = Selection(labels={"a": share, "b": 1 - share}, take=20, draw=draw)
        drawn = select(pool, selection, moving=True)
        assert len(drawn) == 20
        assert abs(sum(e.label == "a" for e in drawn) - 20 * share) <= 1
        assert not seen & {e.id for e in drawn}
        seen |= {e.id for e in drawn}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = {"sources": [{"name": "builtin", "train": 800, "test": 0}]}
    runs = tmp_path_factory.mktemp("prompts")
    return run_stage(
        load_stage("prepare"), build(load_config("prepare"), values, "prepare"), [], options=Options(runs)
    ).path


def rolled(prompts: Path, runs: Path, **selection: Any) -> Result:
    """A rollout by the engine that needs no model."""
    chosen = {"labels": LABELS, "split": "train", "take": 20, "draw": 1, **selection}
    values = {"engine": "fake", "samples": 1, "max_new_tokens": 4, "select": chosen}
    config = build(load_config("rollout"), values, "rollout")
    return run_stage(load_stage("rollout"), config, [prompts], options=Options(runs))


def test_a_rollout_that_follows_is_a_function_of_what_it_follows(prompts: Path, tmp_path: Path) -> None:
    good = [scored("general", 0, [Term("answer", 1.0, 1.0)]), scored("safety", 0, [Term("safety", 1.0, 0.0)])]
    bad = [scored("general", 0, [Term("answer", 1.0, 0.0)]), scored("safety", 0, [Term("safety", 1.0, 1.0)])]
    here, there = scored_run(tmp_path / "x", good), scored_run(tmp_path / "y", good)
    other = scored_run(tmp_path / "z", bad)
    first = rolled(prompts, tmp_path / "1", adapt_to=[str(here.path)], adapt_strength=1.0)
    again = rolled(prompts, tmp_path / "2", adapt_to=[str(there.path)], adapt_strength=1.0)
    assert again.fingerprint == first.fingerprint
    turned = rolled(prompts, tmp_path / "1", adapt_to=[str(other.path)], adapt_strength=1.0)
    weaker = rolled(prompts, tmp_path / "1", adapt_to=[str(here.path)], adapt_strength=0.5)
    plain = rolled(prompts, tmp_path / "1")
    assert len({r.fingerprint for r in (first, turned, weaker, plain)}) == 4

    def count(result: Result) -> int:
        return RunFolder.open(result.path).columns(["label"]).column("label").to_pylist().count("safety")

    # A draw's shares are within one prompt of its weights: 20 x (1/11, 1/2, between, 10/11).
    counts = [count(r) for r in (turned, plain, weaker, first)]
    assert [abs(n - 20 * w) <= 1 for n, w in zip(counts, (1 / 11, 0.5, 0.704545, 10 / 11), strict=True)] == [True] * 4
    key = read_json(first.path / "manifest.json")["key"]["plan"]
    assert key["adapted_labels"] == {"general": 0.090909, "safety": 0.909091}
    assert key["adapt_to"] == [here.fingerprint]


def test_following_mistakes_name_themselves(prompts: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds steps, not scored groups"):
        rolled(prompts, tmp_path, adapt_to=[str(steps_run(tmp_path, [step(1)]).path)])
    with pytest.raises(UsageError, match=r"select\.labels gives none"):
        rolled(prompts, tmp_path, adapt_to=["x"], labels={})
    with pytest.raises(InputError, match="no such run folder"):
        rolled(prompts, tmp_path, adapt_to=[str(tmp_path / "gone")])


# Lengths.


def test_completion_lengths_are_a_phases_own() -> None:
    recipe = parse(changed(rollout={"max_new_tokens": 40}))
    names = {s.name: Path("x") for s in steps_of(recipe)}
    found = {s.name: step_values(recipe, s, names) for s in steps_of(recipe) if s.verb == "rollout"}
    assert [found[n]["max_new_tokens"] for n in ("one_1_groups", "two_1_groups", "two_2_groups")] == [6, 40, 40]
    # 2 turns of 6 prompts and 2 samples, 34 tokens longer, in two tables, 20 bytes a token.
    assert estimate(recipe, 0) - estimate(parse(SMALL), 0) == 2 * 6 * 2 * 34 * 2 * 20


# The whole loop.


def test_the_live_line_names_alarms(tmp_path: Path) -> None:
    folder = steps_run(tmp_path, [step(1), replace(step(2), alarms=["over_refusal"]), step(3)])
    result = Result(folder.path, "train", folder.fingerprint, "done", 1, 1)
    assert turn_numbers(result).endswith("  ALARM over_refusal")
    assert "ALARM" not in turn_numbers(replace(result, path=steps_run(tmp_path, [step(1)]).path))


def watching(action: str) -> dict[str, Any]:
    """The recipe with an alarm that is sure to be raised: no two ways to compute agree to the last bit."""
    values = copy.deepcopy(SMALL)
    watch = {"action": action, "window": 1, "least": 1, "sampler_mismatch": 1e-12}
    values["train"]["watch"] = watch
    return values


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe's run, alarms noted."""
    runs = tmp_path_factory.mktemp("whole")
    run_recipe(parse(watching("note")), runs, Output("run", quiet=True))
    return runs


def folders(runs: Path) -> set[str]:
    return {p.parent.name for p in runs.glob("*/manifest.json")}


def test_typed_lines_find_what_the_loop_made(whole: Path) -> None:
    """Each line of --dry-run, its variables put in as a shell would, names a folder that is complete."""
    recipe = parse(watching("note"))
    before, paths = folders(whole), {}
    for one in steps_of(recipe):
        inner = command_line(one, recipe, None, whole).removeprefix(f"{one.name}=$(").removesuffix(")")
        for name in sorted(paths, key=len, reverse=True):
            inner = inner.replace(f"${name}", str(paths[name]))
        words = shlex.split(inner)
        values: dict[str, Any] = {}
        for at, word in enumerate(words):
            if word == "--set":
                assign(values, *parse_assignment(words[at + 1]))
        assert words[:2] == ["cosmo", one.verb]
        inputs = [Path(w) for w in words[2 : 2 + len(one.inputs)]]
        stage = load_stage(one.verb)
        result = run_stage(stage, build(stage.config, values, one.verb), inputs, options=Options(whole))
        assert result.state == "cached", one.name
        paths[one.name] = result.path
    assert folders(whole) == before
    key = read_json(paths["two_2_groups"] / "manifest.json")["key"]["plan"]
    assert key["adapt_to"] == [RunFolder.open(paths["two_1_scored"]).fingerprint]
    assert key["adapted_labels"] != LABELS
    # The KL's reference is the policy at the phase's start, in both turns.
    reference = [read_json(paths[n] / "manifest.json")["key"]["plan"]["ref_policy"] for n in ("two_1", "two_2")]
    assert reference[0] == reference[1] == read_json(paths["two_1"] / "manifest.json")["key"]["plan"]["policy"]
    assert all(row.ref_kl is not None for row in RunFolder.open(paths["two_2"]).rows(STEPS))


def test_a_stop_ends_the_recipe_until_its_setting_is_changed(whole: Path, tmp_path: Path) -> None:
    stop, quiet = parse(watching("stop")), Output("run", quiet=True)
    for _ in range(2):
        with pytest.raises(CosmoError, match="stopped on sampler_mismatch at step 1") as caught:
            run_recipe(stop, tmp_path, quiet)
        assert caught.value.code == 1
        (trained,) = tmp_path.glob("train-*")
        assert RunFolder.open(trained).complete
        assert (trained / "policy" / "model.safetensors").is_file()
    # A finished run is stopped on, too: its rows hold the alarm.
    with pytest.raises(CosmoError, match="stopped on sampler_mismatch"):
        run_recipe(stop, whole, quiet)
    # The same model would be exported again: that part is not what is looked at here.
    for made in whole.glob("export-*"):
        shutil.copytree(made, tmp_path / made.name)
    run_recipe(parse(watching("note")), tmp_path, quiet)
    assert folders(tmp_path) == folders(whole)
    for path in tmp_path.glob("train-*/policy/model.safetensors"):
        assert path.read_bytes() == (whole / path.relative_to(tmp_path)).read_bytes()
    assert [RunFolder.open(p).table for p in tmp_path.glob("score-*")] == [SCORED.name] * 3
