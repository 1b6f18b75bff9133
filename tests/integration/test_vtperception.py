"""The perception example: recipes share their start, variants drop their terms, tables say what runs came to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cosmo_cli.recipe.label_check import check_formulas
from cosmo_cli.recipe.run import step_values
from cosmo_cli.recipe.schema import parse, read
from cosmo_cli.recipe.steps import steps_of
from examples.vtperception.__main__ import REWARDS, recipe, rewards_table, study_table
from stages.core.config import build, key_of
from stages.core.stage_list import load_config
from tests.support.cli import ROOT

EXAMPLE = ROOT / "examples" / "vtperception"


def start(name: str) -> list[tuple[str, str]]:
    """The keys of the steps up to the end of the supervised start."""
    parsed = parse(read(EXAMPLE / f"{name}.toml"))
    steps = steps_of(parsed)[:2]
    folders = {"prompts": Path("prompts")}
    return [(s.name, repr(build(load_config(s.verb), step_values(parsed, s, folders), s.verb))) for s in steps]


def key_of_training(name: str) -> dict[str, object]:
    parsed = parse(read(EXAMPLE / f"{name}.toml"))
    values = step_values(parsed, steps_of(parsed)[1], {"prompts": Path("prompts")})
    return dict(key_of(build(load_config("train"), values, "train")))


def test_the_three_recipes_begin_with_the_same_prompts_and_the_same_start() -> None:
    assert start("sft")[0] == start("study")[0] == start("rl")[0]
    assert start("sft") == start("study")
    assert start("sft")[1][0] == "sft"
    # In one folder of runs each finds what another has made.
    assert key_of_training("sft") == key_of_training("study") == key_of_training("rl")


@pytest.mark.parametrize("variant", REWARDS)
def test_a_variant_drops_its_terms_everywhere_and_nothing_else(variant: str) -> None:
    values, whole = recipe(variant, seed=2), recipe("all", seed=2)
    check_formulas(parse(values))
    tables = [values, *values["phases"]]
    for table, other in zip(tables, [whole, *whole["phases"]], strict=True):
        for label, formula in other.get("score", {}).get("rewards", {}).items():
            kept = {k: v for k, v in formula["terms"].items() if k not in REWARDS[variant]}
            assert table["score"]["rewards"].get(label, {}).get("terms", {}) == kept
    assert (values["seed"], values["summary"]) == (2, f"{variant}.json")
    assert [p["iterations"] for p in recipe(variant, 1, turns=3)["phases"] if p["name"] != "sft"] == [3, 3]
    assert recipe("study", 1, sft_steps=7)["phases"][0]["train"]["steps"] == 7


def test_perception_comes_first_and_answers_then() -> None:
    steps = {s.name: s for s in steps_of(parse(read(EXAMPLE / "rl.toml")))}
    weights = {}
    for name in ("perceive_1", "reason_1"):
        values = step_values(parse(read(EXAMPLE / "rl.toml")), steps[f"{name}_scored"], {f"{name}_groups": Path("g")})
        weights[name] = values["rewards"]["general"]["terms"]
        assert values["rewards"]["general"]["layout"] == "describe"
    first, then = weights["perceive_1"], weights["reason_1"]
    assert (first["answer"], then["answer"]) == (0.5, 1.0)
    assert all(first[k] > then[k] for k in ("visual_keys", "text_keys", "consistency"))
    assert first["repetition"] == then["repetition"] == 2.0


def test_tables_say_means_over_seeds_and_differences_paired_by_seed(tmp_path: Path) -> None:
    figures = {"all": [(0.5, 0.9), (0.6, 0.7)], "answer_and_format": [(0.5, 0.4), (0.6, 0.4)]}
    for variant, by_seed in figures.items():
        for seed, (right, seen) in enumerate(by_seed, start=1):
            (tmp_path / f"seed-{seed}").mkdir(exist_ok=True)
            run = {policy: {"capability": right, "described": seen} for policy in ("sft", "rl")}
            (tmp_path / f"seed-{seed}" / f"{variant}.json").write_text(json.dumps(run))
    lines = rewards_table(tmp_path, [1, 2, 3])
    assert lines[0] == "| | capability | described |"
    assert lines[-1].startswith("| all - answer_and_format | +0.0 [+0.0, +0.0] | +40.0 [")
    assert sum("supervised start" in line for line in lines) == 1


def test_the_study_of_one_seed_has_its_paired_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.vtperception.__main__.artifact", lambda run, name: run / name)
    rates = {"before": 0.5, "after": 0.75, "difference": 0.25, "low": 0.1, "high": 0.4}
    one = {"family": "notes", "n": 40, "up": 12, "down": 2, **rates}
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "study.json").write_text(json.dumps({"metrics": str(tmp_path)}))
    paired = [{**one, "task": task} for task in ("reading", "all")]
    (tmp_path / "summary.json").write_text(json.dumps({"paired": paired}))
    lines = study_table(tmp_path, [1])
    assert lines[2] == "| all | notes | 40 | 50.0 | 75.0 | +25.0 [+10.0, +40.0] | 12, 2 | 0.01 |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| all", "| reading"]
    # Pairs of several seeds are one test: 24 better, 4 worse.
    shutil.copytree(tmp_path / "seed-1", tmp_path / "seed-2")
    pooled = study_table(tmp_path, [1, 2])[2]
    assert (
        pooled == "| all | notes | 80 | 50.0 [50.0, 50.0] | 75.0 [75.0, 75.0] | +25.0 [+25.0, +25.0] | 24, 4 | 0.0002 |"
    )
