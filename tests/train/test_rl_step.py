"""What a loss is given of a micro-batch, what a step's sums count, and old log-probs through a checkpoint."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stages.train.losses.base import LossInputs
from stages.train.rl.batches import Group, MicroBatch, TrainCompletion, Update
from stages.train.rl.logprobs import TokenLogprobs
from stages.train.rl.old_logprobs import fill_old_logprobs, old_logprobs_tensor, restore_old_logprobs
from stages.train.rl.rollout import Rollout
from stages.train.rl.scoring import loss_inputs
from stages.train.rl.step_row import TokenSums, added_up
from tests.train.test_train_batches import group


def completions(*lengths: int, weight: float = 0.5) -> list[TrainCompletion]:
    """One of each length, whose sampler gave -1 for each token."""
    row = group(0, [1.0] * len(lengths), list(lengths))
    return [TrainCompletion(c, advantage=0.1 * (k + 1), weight=weight) for k, c in enumerate(row.completions)]


def micro_batch(parts: list[TrainCompletion]) -> MicroBatch:
    return MicroBatch([(Group(group(0, []), parts, live=True), parts)])


def scores(*lengths: int) -> TokenLogprobs:
    """Log-probs -0.1, -0.2, ... along each completion; entropy 2 for each token."""
    mask_NT = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).float()
    logprobs_NT = (-0.1 * (torch.arange(max(lengths)) + 1.0)).expand(len(lengths), -1) * mask_NT
    return TokenLogprobs(logprobs_NT.clone().requires_grad_(), 2.0 * mask_NT, mask_NT)


def test_a_completion_without_old_log_probs_is_on_policy_and_the_others_keep_theirs():
    two = completions(3, 1)
    two[1].old_logprobs = torch.tensor([-7.0])
    inputs = loss_inputs(micro_batch(two), scores(3, 1), None)
    assert inputs.old_logprobs_NT.tolist() == [pytest.approx([-0.1, -0.2, -0.3]), [-7.0, 0.0, 0.0]]
    assert not inputs.old_logprobs_NT.requires_grad
    assert inputs.logprobs_NT.requires_grad
    assert two[0].old_logprobs.tolist() == pytest.approx([-0.1, -0.2, -0.3])
    assert inputs.advantages_N1.tolist() == [[pytest.approx(0.1)], [pytest.approx(0.2)]]
    assert inputs.weights_N.tolist() == [0.5, 0.5]
    assert inputs.mask_NT.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_fillers_tokens_count_nowhere():
    """A rank without a group of its own computes one for company: no mean may see it."""
    two = completions(3, 2)
    two[1] = replace(two[1], weight=0.0)
    inputs = loss_inputs(micro_batch(two), scores(3, 2), None)
    assert inputs.mask_NT.tolist() == [[1, 1, 1], [0, 0, 0]]
    sums = TokenSums()
    sums.add_micro_batch(micro_batch(two), scores(3, 2), inputs, {"ratio": torch.tensor(3.0)}, "recompute")
    assert (sums.tokens, sums.mean("entropy"), sums.mean("ratio")) == (3, 2.0, 1.0)


def test_the_sampler_gap_is_an_absolute_difference_over_tokens_that_count():
    one = completions(2)
    one[0].old_logprobs = torch.tensor([-0.5, -1.5])
    inputs = loss_inputs(micro_batch(one), scores(2), None)
    sums = TokenSums()
    sums.add_micro_batch(micro_batch(one), scores(2), inputs, {}, "recompute")
    assert sums.mean("sampler_gap") == pytest.approx(0.5)  # the sampler's are -1: half above, half below
    assert sums.mean("ref_kl") is None
    stored = TokenSums()
    stored.add_micro_batch(micro_batch(one), scores(2), inputs, {}, "stored")
    assert stored.mean("sampler_gap") is None
    assert added_up([sums, sums]).sums == {name: 2 * value for name, value in sums.sums.items()}


def rollout(updates: list[list[TrainCompletion]]) -> Rollout:
    made = [Update(i, [Group(group(i, []), parts, live=True)]) for i, parts in enumerate(updates)]
    return Rollout(0, made, [], {}, {}, None)


def cut(update: Update) -> list[MicroBatch]:
    return [MicroBatch([(g, g.completions) for g in update.live])]


def scored(micro: MicroBatch) -> TokenLogprobs:
    return scores(*(c.length for c in micro.completions))


def test_all_but_the_first_update_get_their_old_log_probs_before_anything_moves():
    made = rollout([completions(2), completions(1, 3), completions(2)])
    fill_old_logprobs(made, "recompute", cut, scored)
    found = [None if c.old_logprobs is None else len(c.old_logprobs) for c in made.completions()]
    assert found == [None, 1, 3, 2]
    assert not any(c.old_logprobs.requires_grad for c in made.completions() if c.old_logprobs is not None)
    fill_old_logprobs(made, "stored", cut, scored)
    assert [c.old_logprobs.tolist() for c in made.completions()] == [[-1.0] * n for n in (2, 1, 3, 2)]


def test_old_log_probs_come_back_from_a_checkpoint_to_the_rank_that_has_them():
    made = rollout([completions(2), completions(1, 3)])
    fill_old_logprobs(made, "recompute", cut, scored)
    flat = old_logprobs_tensor(made, torch.device("cpu"))
    assert flat.tolist() == pytest.approx([0.0, 0.0, -0.1, -0.1, -0.2, -0.3])
    again = rollout([completions(2), completions(1, 3)])
    own = list(again.completions())[:2]
    restore_old_logprobs(again, flat, own)
    first, second, third = again.completions()
    assert first.old_logprobs.tolist() == [0.0, 0.0]
    assert second.old_logprobs.tolist() == pytest.approx([-0.1])
    assert third.old_logprobs is None


def test_what_a_loss_is_given_has_its_lengths_and_ratios():
    inputs = loss_inputs(micro_batch(completions(3, 1)), scores(3, 1), torch.zeros(2, 3))
    assert isinstance(inputs, LossInputs)
    assert inputs.lengths_N1.tolist() == [[3.0], [1.0]]
    assert torch.count_nonzero(inputs.log_ratio_NT) == 0
    assert inputs.ref_logprobs_NT is not None
