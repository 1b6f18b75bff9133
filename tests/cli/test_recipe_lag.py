"""One step off policy: a turn samples with the policy from before the last training, and its ratios say so."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from cosmo_cli.recipe.planning.disk_estimate import estimate
from cosmo_cli.recipe.run import run_recipe
from cosmo_cli.recipe.schema import parse
from cosmo_cli.recipe.steps import steps_of
from cosmo_cli.recipe.tables import Ref
from cosmo_cli.terminal.output import Output
from schemas.tables import ROLLOUTS, STEPS
from stages.core.errors import UsageError
from stages.core.runs.folder import RunFolder
from tests.support.varied import NAME

LAGGING: dict[str, Any] = {
    "name": "lagging",
    "seed": 3,
    "policy": "tiny:llama",
    "retention": {"policies": 1, "phase_ends": False},
    "prepare": {"sources": [{"name": "builtin", "train": 120, "test": 20}], "images": "without"},
    "rollout": {"samples": 2, "max_new_tokens": 6},
    "score": {"rewards": {label: {"terms": {NAME: 1.0}} for label in ("general", "safety")}},
    "train": {"updates_per_rollout": 1, "learning_rate": 3e-3, "drop_flat_groups": False},
    "phases": [
        {"name": "one", "iterations": 4, "prompts": 4, "labels": {"general": 1.0}, "policy_lag": 1},
        {"name": "two", "iterations": 1, "prompts": 4, "labels": {"general": 1.0}},
    ],
}


def changed(**phase: Any) -> dict[str, Any]:
    """The recipe with changes to its first phase."""
    values = copy.deepcopy(LAGGING)
    values["phases"][0] |= phase
    return values


def policies(values: dict[str, Any], what: str) -> list[Any]:
    """What each rollout, or each training, takes for its policy, in order."""
    return [s.overrides["policy"] for s in steps_of(parse(values)) if s.verb == what]


def test_a_rollout_needs_nothing_of_the_training_before_it() -> None:
    start = "tiny:llama"
    # The next phase begins with what this one came to.
    assert policies(LAGGING, "rollout") == [start, start, Ref("one_1"), Ref("one_2"), Ref("one_4")]
    assert policies(LAGGING, "train") == [start, *(Ref(f"one_{n}") for n in (1, 2, 3, 4))]
    assert policies(changed(policy_lag=0), "rollout") == policies(LAGGING, "train")
    stored = [s.overrides.get("old_logprobs") for s in steps_of(parse(LAGGING)) if s.verb == "train"]
    assert stored == ["stored"] * 4 + [None]


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ({"train": {"old_logprobs": "recompute"}}, "policy_lag = 1 with old_logprobs that are not the sampler's"),
        ({"objective": "sft"}, "has policy_lag and samples nothing"),
        ({"policy_lag": 2}, "policy_lag"),
    ],
)
def test_what_can_not_be_is_said(phase: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(changed(**phase))


def test_one_more_policy_is_reckoned_with() -> None:
    assert estimate(parse(LAGGING), 1000) > estimate(parse(changed(policy_lag=0)), 1000)


def test_turns_sample_with_an_earlier_policy_and_correct_for_it(tmp_path: Path) -> None:
    run_recipe(parse(LAGGING), tmp_path, Output("run", quiet=True))
    named = {f.manifest.provenance["name"]: f for f in map(RunFolder.open, tmp_path.glob("*-*"))}
    trained = {name: f for name, f in named.items() if f.stage == "train"}
    rows = {name: next(iter(f.rows(ROLLOUTS))) for name, f in named.items() if f.stage == "rollout"}
    sampled = {name: row.completions[0].policy_id for name, row in rows.items()}
    begun = {name: f.manifest.provenance["policy_id"] for name, f in trained.items()}
    assert sampled["one_1_groups"] == sampled["one_2_groups"] == begun["one_1"]
    assert sampled["one_3_groups"] == begun["one_2"] != begun["one_3"]
    assert sampled["one_4_groups"] == begun["one_3"] != begun["one_4"]
    assert sampled["two_1_groups"] == begun["two_1"]
    # The first turn is on policy; those after it are as far off as one turn has moved the policy.
    gaps = [next(iter(trained[f"one_{n}"].rows(STEPS))).ratio_mean for n in (1, 2, 3, 4)]
    assert gaps[0] == pytest.approx(1.0, abs=1e-5)
    assert all(abs(gap - 1.0) > 1e-4 for gap in gaps[1:]), gaps
