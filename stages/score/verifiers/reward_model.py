"""Reward model: what a model trained on pairs of completions gives the whole completion, as a number of 0 to 1.

`cosmo train --objective reward` makes one (Bradley and Terry; Ouyang et al., arXiv:2203.02155): r(prompt, completion)
with sigmoid(r(a) - r(b)) the probability that a is better. `[score.reward_model] policy` names it.

    value = sigmoid(r)      or r itself, with `value = "raw"`

Sigmoid is the default, for formulas add grades up and all others lie in 0 to 1: a raw number has no bounds, and would
outweigh them. Pairs fix r up to a constant only, so a sigmoid can saturate where a model's numbers lie far from 0: then
take `raw`, best where it is the only task term (the group's mean is the baseline, and the constant drops out).

The whole completion is read, think block included, as in training. It reads text only: rows with images don't apply.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stages.core.errors import BadSample, UsageError
from stages.core.resources import Kind
from stages.core.runs.halved import Halved
from stages.core.stage import Context
from stages.score.config import RewardModelTable, ScoreConfig
from stages.score.verifiers.base import BoundVerifier, Judgement, ModelVerifier, Ungraded, does_not_apply, failed

if TYPE_CHECKING:
    from stages.models.load import Policy
    from stages.models.policy_ref import PolicyRef

NAME = "reward_model"
_MODEL: Kind[Policy] = Kind(NAME, on_device=True)


class _RewardModel:
    """A loaded model and the rule."""

    def __init__(self, table: RewardModelTable, policy: Policy, halved: Halved) -> None:
        self.table, self.policy, self.halved = table, policy, halved

    def grade_groups(self, window: Sequence[Ungraded]) -> list[list[Judgement]]:
        """A judgement for every completion; completions of all groups share batches."""
        from stages.score.models.reward_scores import scalars

        encoded = [self._encoded(ungraded) for ungraded in window]
        rows = [ids for group in encoded if not isinstance(group, Judgement) for ids in group]
        numbers = iter(scalars(self.policy, rows, self.table.batch_tokens, self.halved))
        return [
            [group] * len(ungraded.completions)
            if isinstance(group, Judgement)
            else [self._judgement(next(numbers)) for _ in group]
            for ungraded, group in zip(window, encoded, strict=True)
        ]

    def _encoded(self, ungraded: Ungraded) -> list[list[int]] | Judgement:
        """The group's token ids, a row a completion; or what is to be said of all of it."""
        from stages.score.models.reward_scores import sequences

        if ungraded.group.images:
            return does_not_apply("the row has images, and a reward model reads text only")
        try:
            return sequences(self.policy, ungraded.group, [c.text for c in ungraded.completions])
        except BadSample as error:
            return failed(str(error))

    def _judgement(self, number: float | str) -> Judgement:
        if isinstance(number, str):
            return failed(number)
        if not math.isfinite(number):
            return failed(f"the reward model gave {number}")
        value = number if self.table.value == "raw" else _sigmoid(number)
        return Judgement(value, None, None, f"{number:+.4f}")


def _sigmoid(x: float) -> float:
    # Two forms of one formula: `exp` of a large number overflows, and this way it is only given small ones.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def bind(config: ScoreConfig) -> ModelVerifier:
    """The verifier under a run's config; UsageError where no model is named."""
    from stages.models.policy_ref import resolve_policy

    table = config.reward_model
    if not table.policy:
        raise UsageError(
            f"the verifier {NAME!r} needs a model",
            "add --set reward_model.policy=RUN: cosmo train SCORED --objective reward makes one",
        )
    ref = resolve_policy(table.policy)
    identity = {"rule": 1, "policy": ref.id, "value": table.value, "dtype": table.dtype}
    return ModelVerifier(NAME, identity, lambda ctx: _open(ctx, table, ref).grade_groups)


def _open(ctx: Context, table: RewardModelTable, ref: PolicyRef) -> _RewardModel:
    from stages.models.load import load_reward_model

    def make() -> Policy:
        return load_reward_model(ref, device=table.device, dtype=table.dtype, new_head=False)

    policy = ctx.resources.get(_MODEL, f"{ref.id} {table.device} {table.dtype}", make)
    return _RewardModel(table, policy, ctx.halved)


PLUGIN = BoundVerifier(version=1, bind=bind)
