"""Completions that hold tokens the policy did not generate: nothing is learned from those, and nothing counts them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from schemas.scored import ScoredGroup
from schemas.tables import SCORED
from stages.core.errors import BadSample, InputError
from stages.core.registry import load
from stages.train.config import TrainConfig
from stages.train.losses.base import LossInputs, LossSettings
from stages.train.objectives import dpo
from stages.train.rl.batches import Group, MicroBatch, TrainCompletion, make_updates
from stages.train.rl.logprobs import TokenLogprobs, completion_logprobs
from stages.train.rl.scoring import loss_inputs
from stages.train.rl.step_row import TokenSums
from stages.train.supervised.pairs import Pair, as_texts
from tests.train.made import rejects, scored_group, steps, train, weights, write_shard
from tests.train.test_logprobs import token_groups
from tests.train.test_train_batches import CONFIG, group, grouped

LOSSES = ["cpgd", "grpo", "dapo", "dr_grpo", "gspo", "rloo", "reinforce_pp", "cispo"]
HOLES = [[True, False, False, True, True], [False, True, True], [True, True, True, True]]


def with_holes(row: ScoredGroup, holes: list[list[bool] | None]) -> ScoredGroup:
    """The group; what was not generated has the log-prob 0."""
    completions = [
        c if own is None else replace(c, generated=own, logprobs=[p * o for p, o in zip(c.logprobs, own, strict=True)])
        for c, own in zip(row.completions, holes, strict=True)
    ]
    return replace(row, completions=completions)


def micro_batch(holes: list[list[bool] | None], lengths: list[int], old: torch.Tensor | None = None) -> MicroBatch:
    row = with_holes(group(0, [1.0] * len(lengths), lengths), holes)
    completions = [
        TrainCompletion(c, 0.5 - k, 0.1 * (k + 1), None if old is None else old[k, : lengths[k]].clone())
        for k, c in enumerate(row.completions)
    ]
    return MicroBatch([(Group(row, completions, live=True), completions)])


def scores(logprobs_NT: torch.Tensor, lengths: list[int]) -> TokenLogprobs:
    mask_NT = (torch.arange(logprobs_NT.shape[1]) < torch.tensor(lengths)[:, None]).float()
    return TokenLogprobs(logprobs_NT, 2.0 * mask_NT, mask_NT)


def compact(values_NT: torch.Tensor) -> torch.Tensor:
    """The values without their holes, padded again."""
    kept = [row[: len(own)][torch.tensor(own)] for row, own in zip(values_NT, HOLES, strict=True)]
    return torch.nn.utils.rnn.pad_sequence(kept, batch_first=True)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_that_of_the_generated_tokens_alone(name: str) -> None:
    """As if the others were not there, value, gradient and statistics, whatever log-probs they have."""
    torch.manual_seed(0)
    lengths = [len(own) for own in HOLES]
    values, old, ref = (-torch.rand(3, 5) * 3 for _ in range(3))
    # A token that the sampler may not give: its ratio would be infinite, and times 0 not a number.
    values[0, 1], old[0, 1], ref[1, 0] = -1e9 + 128, -1e9, -1e9
    plugin = load("loss", name)
    settings = LossSettings(ref_kl=0.1, own=plugin.settings and plugin.settings())

    holed = values.clone().requires_grad_()
    inputs = loss_inputs(micro_batch(HOLES, lengths, old), scores(holed, lengths), ref)
    loss, stats = plugin.loss(inputs, settings)
    loss.backward()

    dense, kept = compact(values).requires_grad_(), [sum(own) for own in HOLES]
    bare = micro_batch([None] * 3, kept, compact(old))
    expected, numbers = plugin.loss(loss_inputs(bare, scores(dense, kept), compact(ref)), settings)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert {k: v.item() for k, v in stats.items()} == pytest.approx({k: v.item() for k, v in numbers.items()}, abs=1e-5)
    torch.testing.assert_close(compact(holed.grad), dense.grad, atol=1e-6, rtol=0)
    assert torch.count_nonzero(holed.grad) == torch.count_nonzero(dense.grad)


def test_the_first_updates_gradient_is_a_weighted_nll_of_the_generated_tokens() -> None:
    """- sum of weight x advantage x log pi, by hand."""
    lengths = [len(own) for own in HOLES]
    logprobs_NT = (-torch.rand(3, 5)).requires_grad_()
    loss, _ = load("loss", "grpo").loss(
        loss_inputs(micro_batch(HOLES, lengths), scores(logprobs_NT, lengths), None), LossSettings()
    )
    loss.backward()
    expected = torch.zeros(3, 5)
    for n, own in enumerate(HOLES):
        for t, generated in enumerate(own):
            expected[n, t] = -(0.1 * (n + 1)) * (0.5 - n) * generated
    torch.testing.assert_close(logprobs_NT.grad, expected, atol=1e-7, rtol=0)


def test_sums_of_a_step_do_not_see_the_others() -> None:
    lengths = [len(own) for own in HOLES]
    micro, sums = micro_batch(HOLES, lengths, torch.full((3, 5), -3.0)), TokenSums()
    given = scores(torch.full((3, 5), -1.0), lengths)
    inputs = loss_inputs(micro, given, None)
    _, stats = load("loss", "grpo").loss(inputs, LossSettings())
    sums.add_micro_batch(micro, given, inputs, stats, "recompute")
    assert sums.tokens == 9
    assert sums.mean("entropy") == 2.0
    assert sums.mean("ratio") == pytest.approx(torch.tensor(2.0).exp().item())
    # The sampler's are -1 where it sampled.
    assert sums.mean("sampler_gap") == pytest.approx(2.0)


def test_without_a_generated_token_the_loss_is_0() -> None:
    logprobs_NT = torch.full((1, 3), -1.0, requires_grad=True)
    inputs = loss_inputs(micro_batch([[False] * 3], [3]), scores(logprobs_NT, [3]), None)
    for name in LOSSES:
        plugin = load("loss", name)
        loss, _ = plugin.loss(inputs, LossSettings(own=plugin.settings and plugin.settings()))
        assert loss.item() == 0.0


def test_lengths_weights_and_totals_count_generated_tokens_and_none_is_left_out() -> None:
    holed = with_holes(group(0, [0.0, 1.0, 1.0], [5, 4, 3]), [[True] * 2 + [False] * 3, None, [False] * 3])
    rows = [holed, group(1, [0.0, 1.0], [6, 2])]
    groups, left_out = grouped(rows)
    assert [(ref, reason, detail) for _, ref, reason, detail in left_out] == [
        ("g0#2", "no_completion", "none of its tokens was generated")
    ]
    assert [c.length for g in groups for c in g.completions] == [5, 4, 6, 2]
    config = replace(CONFIG, updates_per_rollout=1)
    for mode, weights_of in {
        "group_tokens": [1 / (2 * 6)] * 2 + [1 / (2 * 8)] * 2,
        "sequence_mean": [1 / (4 * n) for n in (2, 4, 6, 2)],
        "global_tokens": [1 / 14] * 4,
        "constant_length": [1 / (4 * 8)] * 4,
    }.items():
        make_updates(groups, replace(config, aggregation=mode), 0)
        assert [c.weight for g in groups for c in g.completions] == pytest.approx(weights_of), mode


def test_canon_compares_generated_lengths() -> None:
    """The completion with most tokens is the shorter one where an environment wrote most of them."""
    config = TrainConfig(advantage="canon").resolved()
    rows = [group(0, [1.0, 1.0], [9, 4])]
    (plain,), _ = grouped(rows, config)
    (holed,), _ = grouped([with_holes(rows[0], [[True] + [False] * 8, None])], config)
    assert [c.advantage for c in holed.completions] == [c.advantage for c in reversed(plain.completions)]
    assert plain.completions[0].advantage < plain.completions[1].advantage


def test_a_list_of_another_length_is_refused() -> None:
    row = group(0, [0.0, 1.0], [3, 3])
    wrong = replace(row, completions=[replace(c, generated=[True, False]) for c in row.completions])
    with pytest.raises(InputError, match="prompt g0, completion 0: 3 tokens, and `generated` is of 2"):
        grouped([wrong])


@pytest.fixture(scope="module")
def policy(policies):
    return policies("llama")


@pytest.fixture(scope="module")
def rows(policy) -> list[ScoredGroup]:
    """Three groups in which every third token, or the first half, came from elsewhere; one completion is whole."""
    made = []
    for i in range(3):
        row = scored_group(policy, i, g=3, images=False, rewards=[0.0, 1.0, 0.5])
        sizes = [len(c.token_ids) for c in row.completions]
        made.append(
            with_holes(row, [[t % 3 != 1 for t in range(sizes[0])], [2 * t >= sizes[1] for t in range(sizes[1])], None])
        )
    return made


def test_packed_equals_unpacked_with_holes(policy, rows) -> None:
    """Loss and gradient of a real model, prompts shared or not."""
    found = []
    for share in (False, True):
        policy.model.zero_grad()
        given = completion_logprobs(
            policy.model, policy.processor, token_groups(policy, rows), policy.processor.banned_token_ids, share=share
        )
        parts = [[TrainCompletion(c, 0.5 - c.reward, 0.1) for c in row.completions] for row in rows]
        micro = MicroBatch([(Group(row, part, live=True), part) for row, part in zip(rows, parts, strict=True)])
        inputs: LossInputs = loss_inputs(micro, given, None)
        loss, _ = load("loss", "grpo").loss(inputs, LossSettings())
        loss.backward()
        found.append(
            (loss.item(), {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None})
        )
    (plain, gradients), (packed, others) = found
    assert packed == pytest.approx(plain, abs=1e-6)
    for name, gradient in gradients.items():
        assert (others[name] - gradient).abs().max() <= 1e-6 * max(1.0, gradient.abs().max()), name


def test_a_run_counts_and_learns_from_generated_tokens_alone(tmp_path, rows, policy) -> None:
    """Through the runner and a shard: what stands in the holes' log-probs is nothing; a null is what all-true is."""
    everything = [[[True] * len(c.token_ids) for c in row.completions] for row in rows]
    other = [
        replace(row, completions=[replace(c, logprobs=[p or -9.0 for p in c.logprobs]) for c in row.completions])
        for row in rows
    ]
    blank = replace(rows[0].completions[2], index=3, generated=[False] * len(rows[0].completions[2].token_ids))
    blank = replace(rows[0], completions=[*rows[0].completions, blank])
    bare = [replace(r, completions=[replace(c, generated=None) for c in r.completions]) for r in rows]
    runs = {}
    for name, made in {
        "holed": rows,
        "other": other,
        "blank": [blank, *rows[1:]],
        "null": bare,
        "all": [with_holes(row, own) for row, own in zip(bare, everything, strict=True)],
    }.items():
        shard = write_shard(tmp_path / f"{name}.parquet", SCORED, made)
        runs[name] = train(shard, tmp_path / name, policy="tiny:llama", learning_rate=1e-3, updates_per_rollout=1)
    (row,) = steps(runs["holed"])
    assert row.tokens == sum(c.generated_tokens for r in rows for c in r.completions)
    assert row.completion_length == pytest.approx(row.tokens / 9)
    assert row.labels[0].length == pytest.approx(row.tokens / 9)
    assert steps(runs["other"]) == [row]
    assert steps(runs["blank"]) == [row]
    assert rejects(runs["blank"]) == [("no_completion", f"{rows[0].id}#3")]
    for one, two in (("holed", "other"), ("holed", "blank"), ("null", "all")):
        first, second = weights(runs[one]), weights(runs[two])
        assert all(torch.equal(first[n], second[n]) for n in first)
    assert steps(runs["null"]) == steps(runs["all"])
    assert steps(runs["null"])[0].tokens > row.tokens


def test_pairs_of_which_a_part_was_not_generated_are_no_preference_of_the_policy(rows, policy) -> None:
    pairs = object.__new__(dpo.Pairs)
    pairs._processor, pairs._system_turn = policy.processor, "as_it_is"
    entry = {name: None for name in Pair.__dataclass_fields__ if name not in ("chosen", "rejected")}
    with pytest.raises(BadSample, match="not_generated"):
        pairs._encode(as_texts(Pair(**entry, chosen=2, rejected=0), rows[0]))
    assert pairs._encode(as_texts(Pair(**entry, chosen=2, rejected=2), rows[0]))[1]
