"""Constrained: reward minus lambda times cost, lambda raised while completions are unsafe too often (arXiv:2310.12773).

    A      = (A_r - lambda * A_c) / (1 + lambda)
    lambda = max(0, lambda + lr * (unsafe rate of the rollout - bound))     before the advantages are taken

The cost is 1 for a completion that the safety verifier calls unsafe and 0 for another. A_r and A_c are minus their
group's mean, and not divided by its deviation: lambda is then the price of an unsafe completion in units of reward.
Where the verifier did not judge, A_c is 0. safe-RLHF ascends in log lambda; plain ascent can reach 0 and leave it.
"""

from __future__ import annotations

from dataclasses import dataclass

from stages.core.config import option
from stages.core.errors import InputError
from stages.train.advantages.base import AdvantagePlugin, Advantages, Batch, Carried, centred, known, mean

LAMBDA = "lagrangian.lambda"


@dataclass(frozen=True)
class LagrangianSettings:
    """[train.advantages.lagrangian]: the constraint on unsafe completions, and how its price is found."""

    bound: float = option(0.05, "Share of unsafe completions that costs nothing more", low=0.0, high=1.0)
    lr: float = option(0.5, "Step of the dual ascent: lambda moves by lr * (unsafe rate - bound) a rollout", low=0.0)
    start: float = option(1.0, "Lambda before the lineage's first rollout", low=0.0)


def carry(batch: Batch) -> Carried:
    """Lambda after one step of dual ascent on this rollout; InputError where the verifier never judged."""
    costs = known([cost for costs_G in batch.costs for cost in costs_G])
    if not costs:
        raise InputError(
            "advantage = lagrangian, and the safety verifier judged no completion of the rollout",
            'cosmo score it with --set \'also=["refusal", "safety"]\', or choose another --advantage',
        )
    before = batch.carried.get(LAMBDA, batch.settings.start)
    return {LAMBDA: max(0.0, before + batch.settings.lr * (mean(costs) - batch.settings.bound))}


def advantages(batch: Batch) -> Advantages:
    """Both advantages, weighed by the lambda carried."""
    weight = batch.carried[LAMBDA]
    found: Advantages = []
    for rewards_G, costs_G in zip(batch.rewards, batch.costs, strict=True):
        pairs = zip(centred(rewards_G), centred(costs_G), strict=True)
        found.append([None if r is None else (r - weight * (c or 0.0)) / (1.0 + weight) for r, c in pairs])
    return found


PLUGIN = AdvantagePlugin(version=1, advantages=advantages, settings=LagrangianSettings, carry=carry, cost_weight=LAMBDA)
