"""The loss of a value model: cross-entropy at the ends of steps, and pairs of one group's steps of the same number.

Cross-entropy alone learns which prompts are hard, and picks no better than chance among one prompt's completions
(measured on the built-in world). What guidance needs is the order within a group, so steps of the same number whose
targets differ are compared too, as in Bradley and Terry, each pair by how far its targets lie apart (our own design):

    loss = mean over graded completions and dimensions of sum_s BCE(z_s, y_s) / steps
         + pairs * mean over groups of  sum_(a, b) (y_a - y_b) (- log sigmoid(z_a - z_b)) / sum_(a, b) (y_a - y_b)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from stages.train.supervised.value_examples import ValueGroup

# Means of equal grades may differ in their last bit.
_APART = 1e-6


@dataclass(frozen=True, slots=True)
class Totals:
    """What a step's means are taken over."""

    graded: float
    """Completions, once a dimension that has a grade for them."""
    compared: int
    """Groups, once a dimension in which they have a pair."""


@dataclass(slots=True)
class PairCount:
    """Pairs of a step, and those in the order of their targets before the update."""

    pairs: int = 0
    ordered: int = 0

    @property
    def accuracy(self) -> float | None:
        """The share in order; None without a pair."""
        return self.ordered / self.pairs if self.pairs else None


def gaps(group: ValueGroup) -> Tensor:
    """(M, M, D): how much more a's target is than b's, 0 for what is no pair: another step, or no further apart."""
    gap_MMD = group.targets_MD[:, None] - group.targets_MD[None]
    same_MM = group.step_M[:, None] == group.step_M[None]
    # NaN is greater than nothing.
    return torch.where(same_MM[..., None] & (gap_MMD > _APART), gap_MMD, 0.0)


def totals(groups: Sequence[ValueGroup]) -> Totals:
    """Of all groups of an optimizer step."""
    graded = sum(float((g.weight_M[:, None] * ~g.targets_MD.isnan()).sum()) for g in groups)
    compared = sum(int((gaps(g).sum((0, 1)) > 0).sum()) for g in groups)
    return Totals(graded, compared)


def value_loss(logits_MD: Tensor, group: ValueGroup, step: Totals, pairs: float, count: PairCount) -> Tensor:
    """The group's share of the step's loss, a scalar; its pairs are added to `count`."""
    device = logits_MD.device
    targets_MD, weight_M = group.targets_MD.to(device), group.weight_M.to(device)
    known_MD = ~targets_MD.isnan()
    each_MD = binary_cross_entropy_with_logits(logits_MD, targets_MD.nan_to_num(), reduction="none")
    # Not times 0: a number that is none stays one.
    loss = (weight_M[:, None] * each_MD).masked_fill(~known_MD, 0.0).sum() / max(step.graded, 1.0)
    gap_MMD = gaps(group).to(device)
    if step.compared and bool(gap_MMD.any()):
        margin_MMD = logits_MD[:, None] - logits_MD[None]
        apart_D = gap_MMD.sum((0, 1))
        of_D = -(gap_MMD * logsigmoid(margin_MMD)).sum((0, 1)) / apart_D.clamp(min=_APART)
        loss = loss + pairs * of_D.sum() / step.compared
        count.pairs += int((gap_MMD > 0).sum())
        count.ordered += int(((gap_MMD > 0) & (margin_MMD.detach() > 0)).sum())
    return loss
