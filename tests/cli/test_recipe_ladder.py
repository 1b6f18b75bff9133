"""The ladder in a recipe: corpora, phases on stored groups, folders by name, measures with settings of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cosmo_cli.recipe.run import run_recipe, step_values
from cosmo_cli.recipe.schema import parse, read
from cosmo_cli.recipe.steps import Step, command_line, steps_of
from cosmo_cli.recipe.tables import Ref
from cosmo_cli.terminal.output import Output
from schemas.tables import ROLLOUTS, STEPS_GUIDED
from stages.core.atomic import read_json
from stages.core.errors import UsageError
from stages.core.runs.folder import RunFolder, further_rows
from tests.support.cli import ROOT
from tests.support.varied import NAME

LADDER = ROOT / "examples" / "safework_ladder" / "recipe.toml"


def ladder(**changes: Any) -> dict[str, Any]:
    return read(LADDER) | changes


def steps(values: dict[str, Any]) -> dict[str, Step]:
    return {s.name: s for s in steps_of(parse(values))}


def test_a_model_out_of_stored_groups_stands_beside_the_policy() -> None:
    by_name = steps(ladder())
    values = by_name["values"]
    assert values.inputs == [Ref(f"mixed_{n}_scored") for n in range(1, 17)]
    assert values.overrides["policy"] == Ref("search_10")
    assert (values.overrides["objective"], values.overrides["select.split"]) == ("value", "train")
    # Whoever comes after it samples from, measures and exports the policy.
    assert (
        by_name["guided_groups"].overrides["policy"] == by_name["final_groups"].overrides["policy"] == Ref("search_10")
    )
    assert by_name["model"].inputs == [Ref("search_10")]
    assert Ref("values") not in by_name["metrics"].overrides["training"]


def test_refilled_draws_are_stored_groups_too() -> None:
    values = ladder()
    values["phases"] = [p | {"refill": 1, "iterations": 2} if p["name"] == "mixed" else p for p in values["phases"]]
    inputs = [ref.name for ref in steps(values)["values"].inputs]
    assert inputs == ["mixed_1_scored", "mixed_1_more1_scored", "mixed_2_scored", "mixed_2_more1_scored"]


def test_folders_go_by_their_makers_names_and_each_measure_by_its_own_settings() -> None:
    recipe = parse(ladder())
    by_name = steps(ladder())
    assert by_name["search_1_groups"].overrides["environment.options.corpus"] == Ref("almanac")
    assert by_name["guided_groups"].overrides["guide.values"] == Ref("values")
    assert "guide.values" not in by_name["final_groups"].overrides
    folders = {name: Path(f"runs/{name}") for name in by_name}
    found = {name: step_values(recipe, by_name[name], folders) for name in ("lookups_groups", "guided_groups")}
    assert found["guided_groups"]["guide"] == {"k": 4, "values": "runs/values"}
    assert "name" not in found["guided_groups"]["environment"]
    assert found["lookups_groups"]["environment"]["name"] == "search"
    assert found["lookups_groups"]["environment"]["options"] == {"corpus": "runs/almanac"}
    # Its own label weights replace those of all measures.
    assert found["lookups_groups"]["select"]["labels"] == {"knowledge": 1.0}
    line = command_line(by_name["guided_groups"], recipe, LADDER, Path("runs"))
    assert "--set \"guide.values='$values'\"" in line
    made = command_line(by_name["almanac"], recipe, LADDER, Path("runs"))
    assert made == "almanac=$(cosmo prepare --runs runs --name almanac --set 'sources=[\"corpus:almanac\"]')"


def test_a_phases_name_is_its_last_policy() -> None:
    values = ladder()
    values["phases"][2]["train"]["ref_policy"] = "$mixed"
    assert steps(values)["efficient_1"].overrides["ref_policy"] == Ref("mixed_16")


@pytest.mark.parametrize(
    ("place", "value", "message", "hint"),
    [
        ("phases.4.groups_of", ["mixd"], "phase 'values' has groups_of = 'mixd', which is no earlier phase", "'mixed'"),
        ("phases.4.groups_of", ["sft"], "phase 'values' has groups_of = 'sft', which is no earlier", "'mixed'"),
        ("phases.1.groups_of", ["search"], "phase 'mixed' has groups_of = 'search', which is no", "an rl phase"),
        ("phases.4.groups_of", [], "recipe.phases[4].objective = 'value' trains no policy", 'groups_of = ["stage1"]'),
        ("phases.4.iterations", 2, "has groups_of and iterations = 2", "epochs"),
        ("phases.3.name", "prompts", "phase 4 needs a name of its own, not 'prompts'", ""),
        ("corpora", {"search": "x.jsonl"}, "corpora.search = 'x.jsonl' needs a name of its own", "no phase's name"),
        ("corpora", {}, "[rollout] environment.options.corpus = '$almanac' is no corpus", "almanac = FILE.jsonl"),
        ("evaluate.own.guided.rollout.guide.values", "$value", "guide.values = '$value' is no corpus", "$values"),
        ("evaluate.after.guided", "search", "guide.values = '$values' is no corpus and no phase", "$search"),
        ("evaluate.own.gided", {}, "evaluate.own.gided is measured nowhere", 'after = { gided = "PHASE" }'),
        ("evaluate.own.guided.rollout.guide.kk", 2, "unknown key 'kk' in [evaluate.own.guided.rollout.guide]", "'k'"),
    ],
)  # fmt: skip
def test_mistakes_say_what_to_type(place: str, value: Any, message: str, hint: str) -> None:
    values = ladder()
    target: Any = values
    *way, last = place.split(".")
    for name in way:
        target = target[int(name)] if name.isdigit() else target[name]
    target[last] = value
    with pytest.raises(UsageError) as caught:
        steps(values)
    assert message in caught.value.message
    assert hint in caught.value.hint


def miniature() -> dict[str, Any]:
    """The example with its sizes cut, and rewards that vary with an untrained policy, too."""
    values = ladder(retention={"policies": 1, "phase_ends": False})
    builtin, almanac = values["prepare"]["sources"]
    builtin |= {"train": 400, "test": 100}
    almanac |= {"train": 40, "test": 8}
    values["rollout"] |= {"samples": 2, "max_new_tokens": 8}
    labels = ("general", "value", "safety", "jailbreak", "knowledge")
    values["score"]["rewards"] = {label: {"terms": {NAME: 1.0}} for label in labels}
    values["score"]["rewards"]["knowledge"]["layout"] = "search"
    values["train"]["objectives"]["value"] = {"dimensions": [NAME.rpartition(":")[2]], "held_out": 0.3}
    for phase in values["phases"]:
        phase["train"] |= {"steps": 2, "batch_size": 4} if phase["name"] in ("sft", "values") else {}
        phase["train"].pop("epochs", None)
        if "iterations" in phase:
            phase |= {"iterations": 1, "prompts": 8}
        if "rollout" in phase:
            phase["rollout"]["max_new_tokens"] = 8
    measure = values["evaluate"]
    measure["after"] = {"start": "sft", "lookups": "search", "guided": "values"}
    measure["own"] = {name: measure["own"][name] for name in ("lookups", "guided")}
    measure["own"]["lookups"]["rollout"] |= {"max_new_tokens": 8, "samples": 2}
    measure["rollout"]["select"] = {"take": 6, "labels": {"value": 0.5, "jailbreak": 0.5}}
    return values


def test_the_ladder_runs_from_nothing_to_guided_completions(tmp_path: Path) -> None:
    summary = run_recipe(parse(miniature()), tmp_path, Output("run", quiet=True))
    runs = {
        f.manifest.provenance["name"]: f
        for f in map(RunFolder.open, {p.parent for p in tmp_path.glob("*/manifest.json")})
    }
    assert summary["policies"].keys() >= {"start", "lookups", "guided"}
    guided = list(runs["guided_groups"].rows(ROLLOUTS))
    assert guided
    assert all(c.guided for g in guided for c in g.completions)
    chosen = list(further_rows(runs["guided_groups"], STEPS_GUIDED))
    assert chosen
    assert {len(row.candidates) for row in chosen} == {4}
    assert {g.label for g in runs["lookups_groups"].rows(ROLLOUTS)} == {"knowledge"}
    assert "knowledge" not in {g.label for g in guided}
    # The value model outlives its phase: a later step needs it, and the policy, whatever else is cut.
    assert (runs["values"].path / "policy").is_dir()
    assert (runs["search_1"].path / "policy").is_dir()
    assert not (runs["sft"].path / "policy").exists()
    assert Path(summary["model"]).is_dir()
    made = {name: read_json(f.path / "manifest.json") for name, f in runs.items()}
    again = run_recipe(parse(miniature()), tmp_path, Output("run", quiet=True))
    assert json.dumps(again) == json.dumps(summary)
    assert {name: read_json(f.path / "manifest.json") for name, f in runs.items()} == made
