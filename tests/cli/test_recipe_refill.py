"""Refills in a recipe: a turn's further draws, what they are told, and what training learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cosmo_cli.recipe.planning.disk_estimate import estimate
from cosmo_cli.recipe.run import run_recipe
from cosmo_cli.recipe.schema import parse
from cosmo_cli.recipe.steps import command_line, steps_of
from cosmo_cli.recipe.tables import Ref
from cosmo_cli.terminal.output import Output
from schemas.tables import SCORED, STEPS
from stages.core.runs.folder import RunFolder
from stages.rollout.refill import prompts_wanted
from tests.support.varied import NAME


def recipe(refill: int, **phase: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "policy": "tiny:qwen2_5_vl",
        "prepare": {"sources": [{"name": "builtin", "train": 60, "test": 0}]},
        "train": {"flat_by": "answer"},
        "phases": [{"name": "one", "iterations": 2, "prompts": 4, "refill": refill, **phase}],
    }


def test_a_turn_draws_on_from_slices_of_its_own_and_trains_on_all_of_them() -> None:
    steps = {s.name: s for s in steps_of(parse(recipe(2)))}
    draws = [s.overrides["select.draw"] for s in steps.values() if s.verb == "rollout"]
    assert draws == [0, 1, 2, 3, 4, 5]
    assert {s.overrides["select.take"] for s in steps.values() if s.verb == "rollout"} == {4}
    assert "select.refill_of" not in steps["one_2_groups"].overrides
    more = steps["one_2_more2_groups"].overrides
    assert more["select.refill_of"] == [Ref("one_2_scored"), Ref("one_2_more1_scored")]
    assert (more["select.refill_to"], more["select.refill_by"]) == (4, "answer")
    # The same policy samples all of a turn.
    assert more["policy"] == steps["one_2_groups"].overrides["policy"] == Ref("one_1")
    assert steps["one_2"].inputs == [Ref("one_2_scored"), Ref("one_2_more1_scored"), Ref("one_2_more2_scored")]
    assert steps["one_2"].overrides["one_rollout"] is True
    line = command_line(steps["one_1_more1_groups"], parse(recipe(2)), Path("r.toml"), Path("runs"))
    assert "--set \"select.refill_of=['$one_1_scored']\"" in line


def test_the_phases_own_verifier_decides_and_rewards_do_where_none_is_named() -> None:
    own = {s.name: s for s in steps_of(parse(recipe(1, train={"flat_by": "value"})))}
    assert own["one_1_more1_groups"].overrides["select.refill_by"] == "value"
    plain = {s.name: s for s in steps_of(parse(recipe(1, train={"flat_by": ""})))}
    assert "select.refill_by" not in plain["one_1_more1_groups"].overrides


def test_without_refills_a_recipe_is_what_it_was() -> None:
    steps = steps_of(parse(recipe(0)))
    assert [s.overrides["select.draw"] for s in steps if s.verb == "rollout"] == [0, 1]
    assert all("one_rollout" not in s.overrides for s in steps)
    assert not any("more" in s.name for s in steps)


def test_refills_count_in_the_disk_that_a_run_may_need() -> None:
    assert estimate(parse(recipe(3)), 0) == 4 * estimate(parse(recipe(0)), 0)


def test_a_recipe_with_refills_runs_to_its_end_and_learns_from_both_draws(tmp_path: Path) -> None:
    values = recipe(1, labels={"general": 1.0}) | {"policy": "tiny:llama"}
    values["prepare"] = {
        "images": "without",
        "sources": [{"name": "builtin", "train": 400, "test": 0, "weights": {"general": 1}}],
    }
    values["rollout"] = {"samples": 2, "max_new_tokens": 4}
    values["score"] = {"rewards": {"general": {"terms": {NAME: 1.0}}}}
    values["train"] = {"flat_by": "varied", "updates_per_rollout": 2, "learning_rate": 1e-4}
    run_recipe(parse(values), tmp_path, Output("run", quiet=True))
    scored = {f.manifest.provenance["name"]: f for f in map(RunFolder.open, tmp_path.glob("score-*"))}
    for turn in ("one_1", "one_2"):
        first, more = (list(scored[f"{turn}{draw}_scored"].rows(SCORED)) for draw in ("", "_more1"))
        live = sum(0.01 < sum(c.reward for c in g.completions) / 2 < 0.99 for g in first)
        assert len(first) == 4
        assert len(more) == prompts_wanted(live, 4, goal=4, most=4)
        assert not {g.id for g in first} & {g.id for g in more}
    for run in map(RunFolder.open, tmp_path.glob("train-*")):
        rows = list(run.rows(STEPS))
        # One rollout, whatever it was drawn in: its groups are those of both.
        assert len({row.rollout for row in rows}) == 1
        assert sum(row.groups for row in rows) == sum(len(list(f.rows(SCORED))) for f in run.upstream())
