"""What an RL run's closing line says, and when it says that nothing was learned."""

from __future__ import annotations

import pytest

from schemas.steps import StepRow
from stages.train.rl.quality import rl_quality


def row(step: int, **fields) -> StepRow:
    values = {
        "objective": "rl", "step": step, "rollout": 0, "update": step - 1, "loss": 0.1, "grad_norm": 0.5,
        "learning_rate": 1e-6, "tokens": 40, "groups": 4, "dropped_groups": 1, "reward_mean": 0.25,
        "advantage_abs": 0.3, "drift": 0.002, "seconds": 1.0,
    }  # fmt: skip
    return StepRow(**{**values, **fields})


def test_the_line_has_reward_groups_used_gradient_norm_and_drift():
    quality = rl_quality([row(1), row(2, reward_mean=0.75, grad_norm=1.5, drift=0.004, dropped_groups=2)])
    assert quality.line == "2 steps, reward 0.5, 5 of 8 groups used, gradient norm 1, drift 0.003"
    assert (quality.numbers["groups"], quality.numbers["groups_used"], quality.numbers["reward"]) == (8, 5, 0.5)
    assert quality.failure is None
    assert quality.warning is None


def test_a_step_without_a_used_group_is_no_part_of_the_mean_gradient_norm():
    empty = row(2, dropped_groups=4, grad_norm=0.0, advantage_abs=0.0, drift=None)
    assert rl_quality([row(1), empty]).numbers["grad_norm"] == 0.5


def test_what_was_not_measured_is_not_said():
    assert rl_quality([row(1, drift=None)]).line == "1 steps, reward 0.25, 3 of 4 groups used, gradient norm 0.5"


def test_alarms_that_hold_at_the_end_are_named():
    assert rl_quality([row(1, alarms=["over_refusal"]), row(2)]).numbers["alarms"] == []
    assert rl_quality([row(1), row(2, alarms=["over_refusal"])]).line.endswith("alarms: over_refusal")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dropped_groups": 4, "advantage_abs": 0.0}, "none of 8 groups had an advantage"),
        # drop_flat_groups = false: in the loss, and still nothing to learn from.
        ({"dropped_groups": 0, "advantage_abs": 0.0}, "none of 8 groups had an advantage"),
        ({"dropped_groups": 4, "advantage_abs": None, "reward_mean": None}, "no completion had a reward"),
    ],
)
def test_a_run_in_which_no_group_had_an_advantage_has_failed(fields, words):
    quality = rl_quality([row(1, **fields), row(2, **fields)])
    assert words in quality.failure
    assert quality.hint
    assert quality.numbers["groups_used"] == 0
    # One step that learned something is enough.
    assert rl_quality([row(1, **fields), row(2)]).failure is None


def test_very_few_used_groups_are_a_warning():
    few = [row(1, groups=40, dropped_groups=37)]
    assert rl_quality(few).warning == "only 3 of 40 groups had an advantage"
    assert rl_quality([row(1, groups=40, dropped_groups=36)]).warning is None
