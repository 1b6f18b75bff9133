"""Dealing groups to updates and micro-batches, and the schedule: pure bookkeeping."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.rollouts import Sampling
from schemas.scored import ScoredCompletion, ScoredGroup
from schemas.values import Image, text_message
from stages.core.errors import InputError
from stages.train.advantages.base import AdvantagePlugin
from stages.train.config import TrainConfig
from stages.train.optim import rate_factor
from stages.train.rl.batches import (
    Group,
    TrainCompletion,
    Update,
    estimate_advantages,
    make_groups,
    make_updates,
    micro_batches,
)
from stages.train.rl.rollout import read_rollouts, rollouts_of
from tests.eval.made import answered, grade, scored_run
from tests.train.made import judged

CONFIG = TrainConfig().resolved()


def group(i: int, rewards: list[float | None], lengths: list[int] | None = None, prompt: int = 5) -> ScoredGroup:
    lengths = lengths or [3] * len(rewards)
    completions = [
        ScoredCompletion(
            index=k, text="", token_ids=[1] * n, logprobs=[-1.0] * n, finish_reason="stop",
            sampling=Sampling(1.0, 1.0, 0, 8, 0), policy_id="p", engine="made", reward=r,
        )
        for k, (r, n) in enumerate(zip(rewards, lengths, strict=True))
    ]  # fmt: skip
    return ScoredGroup(
        id=f"g{i}", label="general", source="made", task="made", messages=[text_message("user", "hi")],
        prompt_token_ids=[2] * prompt, completions=completions,
    )  # fmt: skip


def grouped(rows, config=CONFIG):
    left_out = []
    groups = make_groups(rows, "made", config, lambda *entry: left_out.append(entry))
    estimate_advantages(groups, config, {})
    return groups, left_out


@settings(max_examples=60, deadline=None)
@given(live=st.integers(0, 12), flat=st.integers(0, 12), wanted=st.integers(1, 9))
def test_every_group_is_in_one_update_and_live_ones_are_spread_evenly(live, flat, wanted):
    rows = [group(i, [0.0, 1.0]) for i in range(live)] + [group(100 + i, [1.0, 1.0]) for i in range(flat)]
    groups, _ = grouped(rows)
    updates = make_updates(groups, replace(CONFIG, updates_per_rollout=wanted), 0)
    assert sorted(g.row.id for u in updates for g in u.groups) == sorted(r.id for r in rows)
    assert len(updates) == max(1, min(wanted, live))
    sizes = [len(u.live) for u in updates]
    assert max(sizes) - min(sizes) <= 1
    assert live == 0 or min(sizes) >= 1


@pytest.mark.parametrize("mode", ["group_tokens", "sequence_mean", "global_tokens"])
def test_token_weights_add_up_to_one_when_nothing_is_left_out(mode):
    rows = [group(0, [0.0, 1.0], [2, 5]), group(1, [1.0, 0.0, 0.5], [1, 1, 7])]
    groups, _ = grouped(rows)
    config = replace(CONFIG, aggregation=mode, updates_per_rollout=1)
    (update,) = make_updates(groups, config, 0)
    assert math.fsum(s.weight * s.length for g in update.live for s in g.completions) == pytest.approx(1.0)


def test_flat_groups_keep_their_share_of_the_mean():
    """Half the prompts are flat: the live half's weights add up to one half."""
    groups, _ = grouped([group(0, [0.0, 1.0]), group(1, [1.0, 1.0])])
    for mode in ("group_tokens", "sequence_mean", "global_tokens"):
        (update,) = make_updates(groups, replace(CONFIG, aggregation=mode), 0)
        assert sum(s.weight * s.length for g in update.live for s in g.completions) == pytest.approx(0.5)


def test_flat_groups_can_be_kept():
    groups, _ = grouped([group(0, [1.0, 1.0])], replace(CONFIG, drop_flat_groups=False))
    assert groups[0].live
    assert [s.advantage for s in groups[0].completions] == [0.0, 0.0]


def test_a_group_with_no_usable_completion_is_kept_for_the_count_and_left_out():
    groups, left_out = grouped([group(0, [None, None])], replace(CONFIG, drop_flat_groups=False))
    assert not groups[0].live
    assert [e[2] for e in left_out] == ["no_reward", "no_reward"]


def test_dr_grpos_weight_is_one_constant_and_a_plain_sum_has_none():
    groups, _ = grouped([group(0, [0.0, 1.0], [2, 5]), group(1, [1.0, 1.0], [1, 8])])
    for mode, expected in (("constant_length", 1 / (4 * 8)), ("sequence_sum", 1 / 4)):
        (update,) = make_updates(groups, replace(CONFIG, aggregation=mode), 0)
        assert {s.weight for g in update.live for s in g.completions} == {expected}  # 4 completions of at most 8 tokens


@pytest.mark.parametrize(
    ("advantage", "live"),
    [
        ("group_norm", [False, False, True]),
        ("group_mean", [False, False, True]),
        ("rloo", [False, False, True]),
        ("lagrangian", [True, False, True]),  # its costs differ
        ("batch_norm", [True, True, True]),  # compared with the other groups
        ("canon", [False, False, True]),  # all of one length
    ],
)
def test_what_counts_as_a_flat_group_is_the_estimators_business(advantage, live):
    """A group is left out, and loses its image, where nothing in it has an advantage."""
    rows = [
        judged(group(0, [1.0, 1.0]), ["unsafe", "safe_with_warning"]),
        judged(group(1, [1.0, 1.0]), ["unsafe", "unsafe"]),
        judged(group(2, [0.0, 1.0]), ["unsafe", "unsafe"]),
    ]
    rows = [replace(row, images=[Image(b"picture")]) for row in rows]
    groups, _ = grouped(rows, replace(CONFIG, advantage=advantage))
    assert [g.live for g in groups] == live
    assert [bool(g.row.images) for g in groups] == live
    (update,) = make_updates(groups, replace(CONFIG, updates_per_rollout=1), 0)
    assert (len(update.groups), len(update.live)) == (3, sum(live))
    assert (update.totals.prompts, update.totals.sequences, update.totals.tokens) == (3, 6, 18)


def test_canon_keeps_a_group_of_equal_rewards_and_unequal_lengths():
    config = replace(CONFIG, advantage="canon")
    assert grouped([group(0, [1.0, 1.0], [2, 5])], config)[0][0].live
    config = replace(config, advantages={"canon": {"a": 1.0}})
    assert not grouped([group(0, [1.0, 1.0], [2, 5])], config)[0][0].live


def test_advantages_are_clamped():
    config = replace(CONFIG, advantage="group_mean", advantage_clamp=2.0)
    groups, _ = grouped([group(0, [-100.0, 100.0])], config)
    assert [s.advantage for s in groups[0].completions] == [-2.0, 2.0]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_no_number_names_its_prompt(wrong):
    """It would make every advantage of its group the largest there is."""
    rows = [group(0, [0.0, 1.0]), group(1, [0.0, wrong, 1.0])]
    with pytest.raises(InputError, match=f"prompt g1, completion 1: its reward is {wrong}") as caught:
        grouped(rows)
    assert "cosmo score" in caught.value.hint


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_an_estimator_that_gives_no_number_is_named_with_the_prompt(monkeypatch, wrong):
    plugin = AdvantagePlugin(1, lambda batch: [[0.5, -0.5], [wrong, None]])
    monkeypatch.setattr("stages.train.rl.batches.load", lambda kind, name: plugin)
    with pytest.raises(InputError, match=f"prompt g1: advantage group_norm gave {wrong} of rewards"):
        grouped([group(0, [0.0, 1.0]), group(1, [0.0, 1.0])])


@pytest.mark.parametrize(("advantage", "live"), [(0.0, False), (0.9e-9, False), (1e-8, True), (-1e-8, True)])
def test_a_group_is_flat_where_no_advantage_is_above_a_billionth(monkeypatch, advantage, live):
    plugin = AdvantagePlugin(1, lambda batch: [[0.0, advantage]])
    monkeypatch.setattr("stages.train.rl.batches.load", lambda kind, name: plugin)
    assert grouped([group(0, [0.0, 1.0])])[0][0].live is live


def test_a_single_micro_batch_of_the_exact_budget_is_not_cut():
    groups, _ = grouped([group(i, [0.0, 1.0]) for i in range(2)])
    (update,) = make_updates(groups, replace(CONFIG, updates_per_rollout=1), 0)
    # Shared: two prompts of 5 and four completions of 3 tokens. Padded: four rows of 8.
    for share, tokens in ((True, 22), (False, 32)):
        assert [len(b.completions) for b in micro_batches(update, tokens, share)] == [4]
        assert [len(b.completions) for b in micro_batches(update, tokens - 1, share)] == [2, 2]


def test_the_seeded_order_depends_on_seed_and_rollout_only():
    rows = [group(i, [0.0, 1.0]) for i in range(20)]

    def ids(rows, seed, rollout):
        groups, _ = grouped(rows)
        config = replace(CONFIG, order="seeded", seed=seed)
        return [g.row.id for u in make_updates(groups, config, rollout) for g in u.groups]

    assert ids(rows, 0, 0) == ids(rows[::-1], 0, 0)
    assert len({tuple(ids(rows, s, r)) for s in (0, 1) for r in (0, 1)}) == 4
    assert ids(rows, 0, 0) != [r.id for r in rows]


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=8), min_size=1, max_size=8),
    budget=st.integers(1, 200),
    share=st.booleans(),
)
def test_micro_batches_hold_every_completion_once_in_order_within_the_budget(lengths, budget, share):
    groups = []
    for i, ns in enumerate(lengths):
        row = group(i, [0.0] * len(ns), ns)
        groups.append(Group(row, [TrainCompletion(c, 1.0) for c in row.completions], live=True))
    batches = list(micro_batches(Update(0, groups), budget, share))
    order = [id(s) for b in batches for s in b.completions]
    assert order == [id(s) for g in groups for s in g.completions]
    for batch in batches:
        rows = [(len(g.row.prompt_token_ids), [c.length for c in completions]) for g, completions in batch.parts]
        if share:
            padded = sum(p + sum(r) for p, r in rows)
        else:
            padded = sum(len(r) for _, r in rows) * max(p + n for p, r in rows for n in r)
        assert padded <= budget or len(batch.completions) == 1


@pytest.mark.parametrize("shape", ["cosine", "linear", "constant"])
def test_the_schedule_warms_up_peaks_and_ends_at_its_floor(shape):
    factors = [rate_factor(s, shape=shape, warmup=4, total=20, floor=0.1) for s in range(30)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    end = 1.0 if shape == "constant" else 0.1
    assert factors[20:] == [pytest.approx(end)] * 10
    assert all(a >= b for a, b in itertools.pairwise(factors[4:]))
    assert rate_factor(12, shape="cosine", warmup=4, total=20, floor=0.1) == pytest.approx(0.55)
    assert rate_factor(12, shape="linear", warmup=4, total=20, floor=0.1) == pytest.approx(0.55)


def test_without_a_length_the_rate_stays():
    assert {rate_factor(s, shape="cosine", warmup=0, total=0, floor=0.1) for s in range(9)} == {1.0}


def graded_group(i: int, rewards: list[float], rights: list[float | None]) -> ScoredGroup:
    row = group(i, list(rewards))
    completions = [
        replace(c, grades=[] if right is None else [grade("answer", right)])
        for c, right in zip(row.completions, rights, strict=True)
    ]
    return replace(row, completions=completions)


def test_a_group_of_equal_answers_is_flat_by_them_whatever_its_other_terms_are():
    rows = [
        graded_group(0, [1.7, 1.0], [1.0, 1.0]),
        graded_group(1, [0.7, 0.0], [0.0, 0.0]),
        graded_group(2, [1.7, 0.7], [1.0, 0.0]),
        # The verifier has nothing to say of this one: its rewards decide.
        graded_group(3, [1.0, 0.0], [None, None]),
    ]
    assert [g.live for g in grouped(rows)[0]] == [True] * 4
    by_answer, _ = grouped(rows, replace(CONFIG, flat_by="answer"))
    assert [g.live for g in by_answer] == [False, False, True, True]
    # And without dropping those that are flat by their advantages.
    kept, _ = grouped(rows, replace(CONFIG, flat_by="answer", drop_flat_groups=False))
    assert [g.live for g in kept] == [False, False, True, True]


def test_a_verifier_that_graded_nothing_is_named():
    with pytest.raises(InputError, match=r"'anwser'.*no completion") as raised:
        grouped([graded_group(0, [1.0, 0.0], [1.0, 0.0])], replace(CONFIG, flat_by="anwser"))
    assert "answer" in raised.value.hint


def test_a_turn_and_its_refills_are_one_rollout(tmp_path):
    """Its groups are dealt to updates together; without being asked, each folder is a rollout of its own."""
    runs = [scored_run(tmp_path, [answered(f"{name} {i}", [True, False]) for i in range(3)]) for name in ("a", "b")]
    together = replace(CONFIG, one_rollout=True, updates_per_rollout=2)
    assert [len(folders) for folders in rollouts_of(runs, CONFIG)] == [1, 1]
    ((rollout),) = read_rollouts(rollouts_of(runs, together), 4, together, {}, lambda *entry: None)
    assert rollout.number == 4
    assert [[g.row.messages[0].content[0].text for g in u.groups] for u in rollout.updates] == [
        ["a 0", "a 1", "a 2"],
        ["b 0", "b 1", "b 2"],
    ]
    apart = read_rollouts(rollouts_of(runs, CONFIG), 4, CONFIG, {}, lambda *entry: None)
    assert [(r.number, sum(len(u.groups) for u in r.updates)) for r in apart] == [(4, 3), (5, 3)]
