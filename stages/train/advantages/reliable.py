"""Reliability priced by dual ascent (arXiv:2507.16727): certain and right pays, and so does uncertain and wrong.

    A      = r - mean r,   r = r_base + lambda * g * r_reliab
    lambda = clip(lambda * exp(rate * (P(certain and wrong) - bound)), 0.01, 10)      before the advantages are taken

r_base is the reward as scored: with `combine = "gated"` and terms { format = 0.1, answer = 0.9 } it is the paper's
g * (0.1 g + 0.9 r_acc). g is the grade of `format`, r_reliab that of the verifier `reliability`; where that did not
judge, r is r_base. P is the rollout's share of certain and wrong completions among those that it judged. The paper
gives no numbers for bound, rate, start and clipping: these are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from schemas.scored import Grade
from stages.core.config import option
from stages.core.errors import InputError
from stages.train.advantages.base import AdvantagePlugin, Advantages, Batch, Carried, centred, mean

LAMBDA = "reliable.lambda"
LOWEST, HIGHEST = 0.01, 10.0
FORMAT, RELIABILITY = "format", "reliability"
CERTAIN_AND_WRONG = "certain_incorrect"


@dataclass(frozen=True)
class ReliableSettings:
    """[train.advantages.reliable]: how often a completion may be certain and wrong, and how its price is found."""

    bound: float = option(0.05, "Share of certain and wrong completions that raises nothing", low=0.0, high=1.0)
    rate: float = option(0.5, "Step of the dual ascent in log lambda, a rollout; 0: lambda stays at start", low=0.0)
    start: float = option(0.1, "Lambda before the lineage's first rollout", low=LOWEST, high=HIGHEST)


def carry(batch: Batch) -> Carried:
    """Lambda after one step of dual ascent on this rollout; InputError where reliability never judged."""
    judged = [
        g for grades_G in batch.grades.get(RELIABILITY, []) for g in grades_G if g is not None and g.value is not None
    ]
    if not judged:
        raise InputError(
            "advantage = reliable, and the verifier reliability judged no completion of the rollout",
            "cosmo score it with --set 'also=[\"reliability\"]', or choose another --advantage",
        )
    wrong = mean([float(g.verdict == CERTAIN_AND_WRONG) for g in judged])
    before = batch.carried.get(LAMBDA, batch.settings.start)
    raised = before * math.exp(batch.settings.rate * (wrong - batch.settings.bound))
    return {LAMBDA: min(HIGHEST, max(LOWEST, raised))}


def advantages(batch: Batch) -> Advantages:
    """Rewards with the priced reliability, minus their group's mean."""
    price = batch.carried[LAMBDA]
    columns = zip(batch.rewards, batch.grades[FORMAT], batch.grades[RELIABILITY], strict=True)
    return [centred([_with_reliability(*one, price) for one in zip(*group, strict=True)]) for group in columns]


def _with_reliability(
    reward: float | None, form: Grade | None, reliability: Grade | None, price: float
) -> float | None:
    if reward is None or reliability is None or reliability.value is None:
        return reward
    gate = 1.0 if form is None or form.value is None else form.value
    return reward + price * gate * reliability.value


def reads(settings: Any) -> tuple[str, ...]:
    """The verifiers whose grades it looks at."""
    return FORMAT, RELIABILITY


PLUGIN = AdvantagePlugin(
    version=1, advantages=advantages, settings=ReliableSettings, carry=carry, cost_weight=LAMBDA, reads=reads
)
