"""Refills in a recipe: a turn's further draws, what they are told, and what training learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cosmo_cli.recipe.disk_estimate import estimate
from cosmo_cli.recipe.schema import parse
from cosmo_cli.recipe.steps import Ref, command_line, steps_of


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
