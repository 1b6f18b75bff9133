"""Advantage estimators: weights, flat groups, missing rewards."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.registry import load, names
from stages.train.advantages.base import clamped, is_flat

rewards_G = st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=8)


def estimate(name, rewards):
    return load("advantage", name).advantages(rewards)


def test_group_mean_is_reward_minus_mean():
    assert estimate("group_mean", [[0.0, 1.0, 0.5, 0.5]]) == [[-0.5, 0.5, 0.0, 0.0]]


@pytest.mark.parametrize(("name", "epsilon"), [("group_norm", 1e-9), ("grpo_norm", 1e-4)])
def test_group_norm_divides_by_the_unbiased_std(name, epsilon):
    group = [0.1, 1.0, 0.4, 0.7]
    scale = statistics.stdev(group) + epsilon
    expected = [(r - statistics.fmean(group)) / scale for r in group]
    assert estimate(name, [group])[0] == pytest.approx(expected, rel=1e-12)


def test_clip_filter_makes_up_for_flat_groups_and_is_capped():
    live, flat = [0.0, 1.0], [1.0, 1.0]
    assert estimate("clip_filter", [live, flat])[0] == [-1.0, 1.0]  # w = 2 / 1
    assert estimate("clip_filter", [live] + [flat] * 9)[0] == [-1.5, 1.5]  # w = min(3, 10)
    assert estimate("clip_filter", [live, live])[0] == [-0.5, 0.5]  # w = 1
    assert estimate("clip_filter", [flat]) == [[0.0, 0.0]]


@pytest.mark.parametrize("name", names("advantage"))
@settings(max_examples=50, deadline=None)
@given(rewards=st.lists(rewards_G, min_size=1, max_size=6))
def test_shape_missing_rewards_and_flat_groups(name, rewards):
    result = estimate(name, rewards)
    assert [[a is None for a in g] for g in result] == [[r is None for r in g] for g in rewards]
    for given_G, found_G in zip(rewards, result, strict=True):
        known = [a for a in found_G if a is not None]
        if is_flat(given_G):
            assert set(known) <= {0.0}
        else:
            assert sum(known) == pytest.approx(0.0, abs=1e-6 * max(map(abs, known)) * len(known))


def test_a_missing_reward_does_not_move_the_others():
    assert estimate("group_mean", [[0.0, None, 1.0]]) == [[-0.5, None, 0.5]]
    assert estimate("group_norm", [[0.0, None, 1.0]])[0][0] == estimate("group_norm", [[0.0, 1.0]])[0][0]


def test_clamp():
    assert clamped([[None, -50.0, 3.0, 50.0]], 10.0) == [[None, -10.0, 3.0, 10.0]]
    assert clamped([[50.0]], 0.0) == [[50.0]]
