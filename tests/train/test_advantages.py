"""Advantage estimators: weights, baselines, halves, the constraint, flat groups, missing rewards."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.errors import CosmoError, InputError
from stages.core.registry import load, names
from stages.train.advantages import base
from stages.train.advantages.base import Batch, clamped, is_flat
from stages.train.advantages.batch_norm import BatchNormSettings
from stages.train.advantages.canon import CanonSettings
from stages.train.advantages.functions import adapt
from stages.train.advantages.lagrangian import LAMBDA, LagrangianSettings

rewards_G = st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=8)
NOT_CENTRED = {"batch_norm", "canon"}
"""Those that compare a completion with something else than its group's mean."""


def run(name, rewards, lengths=None, costs=None, carried=None, options=None, right=None):
    """Advantages and what is carried on; by default all completions have one token, are safe and not right."""
    plugin = load("advantage", name)
    defaults = plugin.settings() if plugin.settings else None
    batch = Batch(
        rewards,
        lengths or [[1] * len(g) for g in rewards],
        costs or [[0.0] * len(g) for g in rewards],
        right or [[0.0] * len(g) for g in rewards],
        options or defaults,
        carried or {},
    )
    return base.estimate(plugin, batch)


def estimate(name, rewards, *args, **kwargs):
    return run(name, rewards, *args, **kwargs)[0]


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
@given(data=st.data(), rewards=st.lists(rewards_G, min_size=1, max_size=6))
def test_shape_missing_rewards_and_flat_groups(name, data, rewards):
    lengths = [[data.draw(st.integers(1, 5)) for _ in g] for g in rewards]
    result = estimate(name, rewards, lengths)
    assert [[a is None for a in g] for g in result] == [[r is None for r in g] for g in rewards]
    assert all(math.isfinite(a) for g in result for a in g if a is not None)
    if name in NOT_CENTRED:
        return
    for given_G, found_G in zip(rewards, result, strict=True):
        known = [a for a in found_G if a is not None]
        if is_flat(given_G):
            assert set(known) <= {0.0}
        else:
            assert sum(known) == pytest.approx(0.0, abs=1e-6 * max(map(abs, known)) * len(known))


@pytest.mark.parametrize("name", sorted(set(names("advantage")) - {"batch_norm"}))
def test_a_missing_reward_does_not_move_the_others(name):
    kept = estimate(name, [[0.0, 1.0, 0.25, 0.5]], [[3, 1, 4, 2]], [[1.0, 0.0, 0.0, 1.0]])[0]
    # Its cost is none either: a completion without a reward is left out altogether.
    found = estimate(name, [[0.0, None, 1.0, 0.25, 0.5]], [[3, 9, 1, 4, 2]], [[1.0, None, 0.0, 0.0, 1.0]])[0]
    assert found[1] is None
    assert [found[0], *found[2:]] == kept


def test_leave_one_out_by_its_definition():
    group = [0.1, 1.0, 0.4, 0.7]
    expected = [r - statistics.fmean(group[:k] + group[k + 1 :]) for k, r in enumerate(group)]
    assert estimate("rloo", [group])[0] == pytest.approx(expected, rel=1e-12)
    assert estimate("rloo", [[1.0], [None, 0.5]]) == [[0.0], [None, 0.0]]


def test_batch_norm_compares_groups_with_each_other():
    rewards = [[1.0, 1.0], [0.0, None, 0.5], [0.0]]
    known = [r for g in rewards for r in g if r is not None]
    mean, scale = statistics.fmean(known), statistics.stdev(known) + 1e-9
    result = estimate("batch_norm", rewards)
    assert result == [[None if r is None else pytest.approx((r - mean) / scale) for r in g] for g in rewards]
    assert result[0][0] > 0  # a group of equal rewards is not flat
    assert estimate("batch_norm", [[1.0, 1.0], [1.0]]) == [[0.0, 0.0], [0.0]]


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(
        st.lists(st.tuples(st.one_of(st.none(), st.floats(-5, 5)), st.integers(1, 9)), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_batch_norm_over_tokens_is_a_plain_loop_over_every_token(groups):
    """As REINFORCE++'s authors do it: a tensor of one reward a token, its masked mean, its biased variance."""
    rewards = [[r for r, _ in g] for g in groups]
    lengths = [[n for _, n in g] for g in groups]
    tokens = [r for g in groups for r, n in g if r is not None for _ in range(n)]
    found = estimate("batch_norm", rewards, lengths, options=BatchNormSettings(over="tokens"))
    assert [[a is None for a in g] for g in found] == [[r is None for r in g] for g in rewards]
    if not tokens:
        return
    tokens_T = torch.tensor(tokens, dtype=torch.float64)
    mean_T = tokens_T.sum() / len(tokens)
    rstd = ((tokens_T - mean_T) ** 2).sum().div(len(tokens)).clamp(min=1e-8).rsqrt()
    for rewards_G, found_G in zip(rewards, found, strict=True):
        for reward, advantage in zip(rewards_G, found_G, strict=True):
            if reward is not None:
                assert advantage == pytest.approx(((reward - mean_T) * rstd).item(), rel=1e-9, abs=1e-6)


def test_over_tokens_a_long_completion_weighs_more():
    rewards, lengths = [[0.0, 1.0]], [[9, 1]]
    plain = estimate("batch_norm", rewards, lengths)[0]
    by_token = estimate("batch_norm", rewards, lengths, options=BatchNormSettings(over="tokens"))[0]
    assert plain == pytest.approx([-(0.5**0.5), 0.5**0.5])
    assert by_token == pytest.approx([-1 / 3, 3.0])  # mean 0.1, deviation 0.3


@pytest.mark.parametrize(("gap", "deviation"), [(2e-3, 1e-3), (2e-6, 1e-4)])
def test_over_tokens_a_variance_is_at_least_the_authors_1e_8(gap, deviation):
    found = estimate("batch_norm", [[0.0, gap]], options=BatchNormSettings(over="tokens"))[0]
    assert found == pytest.approx([-gap / 2 / deviation, gap / 2 / deviation])


@settings(max_examples=100, deadline=None)
@given(data=st.data(), half=st.integers(1, 6))
def test_canon_with_mu_a_half_and_a_one_is_dr_grpos_advantage(data, half):
    rewards = [data.draw(st.lists(st.floats(-5, 5), min_size=2 * half, max_size=2 * half))]
    lengths = [data.draw(st.lists(st.integers(1, 9), min_size=2 * half, max_size=2 * half))]
    found = estimate("canon", rewards, lengths, options=CanonSettings(mu=0.5, a=1.0))[0]
    assert found == pytest.approx(estimate("group_mean", rewards)[0], abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), n=st.integers(2, 9), mu=st.floats(0, 1), a=st.floats(0, 2))
def test_canon_by_its_definition(data, n, mu, a):
    rewards = data.draw(st.lists(st.floats(-5, 5), min_size=n, max_size=n))
    lengths = data.draw(st.permutations(range(1, n + 1)))
    found = estimate("canon", [rewards], [lengths], options=CanonSettings(mu=mu, a=a))[0]
    order = sorted(range(n), key=lambda k: lengths[k])
    mean_s = statistics.fmean(rewards[k] for k in order[: n // 2])
    mean_l = statistics.fmean(rewards[k] for k in order[n // 2 :])
    for place, k in enumerate(order):
        if place < n // 2:
            expected = mu * (rewards[k] - a * mean_l) + (1 - mu) * (rewards[k] - mean_s)
        else:
            expected = mu * (a * rewards[k] - mean_s) + (1 - mu) * (rewards[k] - mean_l)
        assert found[k] == pytest.approx(expected, abs=1e-9)


def test_canon_halves_completions_of_one_length_by_their_place():
    found = estimate("canon", [[1.0, 0.0, 0.5]], [[3, 3, 5]], options=CanonSettings(mu=0.0))[0]
    assert found == [0.0, -0.25, 0.25]


def test_canon_below_one_prefers_the_short_of_two_right_answers():
    long, short = estimate("canon", [[1.0, 1.0]], [[9, 2]], options=CanonSettings(mu=0.5, a=0.9))[0]
    assert short > 0 > long
    assert estimate("canon", [[0.0, 0.0]], [[9, 2]]) == [[0.0, 0.0]]
    assert estimate("canon", [[1.0, 1.0]], [[4, 4]]) == [[0.0, 0.0]]  # no longer half, nothing to prefer


CONDITIONAL = CanonSettings(mu=0.5, a=0.9, conditional=True)


@pytest.mark.parametrize(
    ("right", "costs", "asked"),
    [
        ([1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], True),
        ([1.0, 1.0, 1.0, 1.0], [None, None, None, None], True),  # not about safety
        ([1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0], False),  # one is unsafe
        ([1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], False),  # one is wrong
        ([1.0, 0.1, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], False),  # one is a bare refusal
        ([1.0, None, 1.0, 1.0], [None, None, None, None], False),  # of one nobody knows
    ],
)
def test_conditional_canon_asks_for_fewer_words_only_where_all_are_right_and_safe(right, costs, asked):
    rewards, lengths = [[2.0, 2.0, 1.0, 2.0]], [[9, 2, 5, 4]]
    found = estimate("canon", rewards, lengths, [costs], options=CONDITIONAL, right=[right])
    usual = CanonSettings(mu=0.5, a=0.9 if asked else 1.0)
    assert found == estimate("canon", rewards, lengths, options=usual)
    if not asked:
        assert found[0] == pytest.approx(estimate("group_mean", rewards)[0], abs=1e-12)


def test_conditional_canon_looks_at_each_group_by_itself():
    rewards, lengths = [[2.0, 2.0], [2.0, 2.0]], [[9, 2], [9, 2]]
    found = estimate("canon", rewards, lengths, options=CONDITIONAL, right=[[1.0, 1.0], [1.0, 0.0]])
    assert found[0][1] > 0 > found[0][0]
    assert found[1] == [0.0, 0.0]


def test_conditional_canon_passes_over_what_has_no_reward():
    found = estimate("canon", [[2.0, None, 2.0]], [[9, 3, 2]], options=CONDITIONAL, right=[[1.0, None, 1.0]])[0]
    assert found[2] > 0 > found[0]


OPTIONS = LagrangianSettings(bound=0.25, lr=0.5, start=1.0)


def test_lambda_rises_above_the_bound_falls_below_it_and_stops_at_zero():
    rewards = [[0.0, 1.0, 0.0, 1.0]]
    unsafe, safe = [[1.0, 1.0, 1.0, 0.0]], [[0.0, 0.0, 0.0, 0.0]]
    _, up = run("lagrangian", rewards, costs=unsafe, options=OPTIONS)
    assert up == {LAMBDA: 1.0 + 0.5 * (0.75 - 0.25)}
    _, further = run("lagrangian", rewards, costs=unsafe, carried=up, options=OPTIONS)
    assert further == {LAMBDA: 1.5}
    _, down = run("lagrangian", rewards, costs=safe, carried=further, options=OPTIONS)
    assert down == {LAMBDA: 1.375}
    _, at_bound = run("lagrangian", rewards, costs=[[1.0, 0.0, 0.0, 0.0]], carried=down, options=OPTIONS)
    assert at_bound == down
    _, floor = run("lagrangian", rewards, costs=safe, carried={LAMBDA: 0.01}, options=OPTIONS)
    assert floor == {LAMBDA: 0.0}


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.floats(-5, 5), st.sampled_from([0.0, 1.0])), min_size=2, max_size=8),
    weight=st.floats(0, 10),
)
def test_the_constrained_advantage_is_that_of_reward_minus_lambda_times_cost(pairs, weight):
    """Safe-RLHF's formula; and the gradient of the Lagrangian itself, as both baselines are means."""
    rewards, costs = [[r for r, _ in pairs]], [[c for _, c in pairs]]
    fixed = LagrangianSettings(lr=0.0, start=weight)
    found = estimate("lagrangian", rewards, costs=costs, options=fixed)[0]
    joint = [[(r - weight * c) / (1 + weight) for r, c in pairs]]
    assert found == pytest.approx(estimate("group_mean", joint)[0], abs=1e-8)


def test_a_group_flat_in_reward_but_not_in_cost_has_advantages():
    fixed = LagrangianSettings(lr=0.0, start=1.0)
    rewards, costs = [[1.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [None, None]]
    assert estimate("lagrangian", rewards, costs=costs, options=fixed) == [[-0.25, 0.25], [-0.25, 0.25]]


def test_a_constraint_on_what_was_never_judged_is_an_error():
    with pytest.raises(InputError, match="safety verifier judged no completion") as caught:
        run("lagrangian", [[0.0, 1.0]], costs=[[None, None]])
    assert "also" in caught.value.hint


def test_an_estimator_hands_on_what_another_one_carries():
    assert run("group_norm", [[0.0, 1.0]], carried={LAMBDA: 3.0})[1] == {LAMBDA: 3.0}


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("limit", [10.0, 0.0])
def test_clamp_refuses_what_is_no_number(wrong, limit):
    with pytest.raises(ValueError, match=str(wrong)):
        clamped([[1.0, None], [wrong, 0.0]], limit)


@pytest.mark.parametrize(("gap", "flat"), [(0.0, True), (0.9e-9, True), (1e-8, False)])
def test_rewards_closer_than_a_billionth_are_equal(gap, flat):
    """The threshold itself: rounding of a weighted sum is no reason to learn, a real difference always is."""
    group = [1.0, 1.0 + gap, 1.0]
    assert is_flat(group) is flat
    assert (set(estimate("group_norm", [group])[0]) == {0.0}) is flat


def test_a_difference_of_just_a_billionth_is_none():
    assert is_flat([0.0, 1e-9])
    assert not is_flat([0.0, math.nextafter(1e-9, 1.0)])


def test_a_plain_function_is_asked_group_by_group_and_what_nobody_judged_stays_out():
    seen = []

    def spoils(rewards_G):
        seen.append(list(rewards_G))
        found = [7 for _ in rewards_G]
        rewards_G.clear()
        return found

    rewards = [[1.0, None], [0.5]]
    plugin = adapt("spoils", spoils)
    assert plugin.advantages(Batch(rewards)) == [[7.0, None], [7.0]]
    assert seen == rewards == [[1.0, None], [0.5]]
    assert adapt("as it is", plugin) is plugin


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda rewards_G: rewards_G[:1], "gave 1 values for 2 rewards"),
        (lambda rewards_G: [*rewards_G, 0.0], "gave 3 values for 2 rewards"),
        (lambda rewards_G: [0.0, math.nan], "nan"),
        (lambda rewards_G: [math.inf, None], "inf"),
    ],
)
def test_a_plain_function_that_gives_something_else_is_an_error(function, said):
    with pytest.raises(CosmoError, match=said):
        adapt("mine", function).advantages(Batch([[0.0, 1.0]]))


def test_a_function_of_something_else_is_no_advantage():
    def by_length(rewards_G, lengths_G):
        return rewards_G

    with pytest.raises(TypeError, match="mine takes rewards_G, lengths_G; an advantage takes one group's rewards"):
        adapt("mine", by_length)


def test_two_known_values_are_needed():
    assert is_flat([])
    assert is_flat([None, 1.0])
    assert not is_flat([None, 1.0, 0.0])


def test_clamp():
    assert clamped([[None, -50.0, 3.0, 50.0]], 10.0) == [[None, -10.0, 3.0, 10.0]]
    assert clamped([[50.0]], 0.0) == [[50.0]]
