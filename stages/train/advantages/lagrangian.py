"""Constrained: reward minus lambda times cost, lambda raised while completions are unsafe too often (arXiv:2310.12773).

    A      = (A_r - lambda * A_c) / (1 + lambda)
    lambda = max(0, lambda + lr * (unsafe rate of the rollout - bound))     before the advantages are taken

The cost is 1 for a completion that the safety verifier calls unsafe and 0 for another, or that of any verifier and
verdicts that the settings name. A_r and A_c are minus their
group's mean, and not divided by its deviation: lambda is then the price of an unsafe completion in units of reward.
Where the verifier did not judge, A_c is 0. safe-RLHF ascends in log lambda; plain ascent can reach 0 and leave it.
"""

from __future__ import annotations

from dataclasses import dataclass

from stages.core.config import option
from stages.core.errors import InputError, UsageError
from stages.train.advantages.base import AdvantagePlugin, Advantages, Batch, Carried, Values, centred, known, mean

LAMBDA = "lagrangian.lambda"


@dataclass(frozen=True)
class LagrangianSettings:
    """[train.advantages.lagrangian]: the constraint on unsafe completions, and how its price is found."""

    bound: float = option(0.05, "Share of unsafe completions that costs nothing more", low=0.0, high=1.0)
    lr: float = option(0.5, "Step of the dual ascent: lambda moves by lr * (unsafe rate - bound) a rollout", low=0.0)
    start: float = option(1.0, "Lambda before the lineage's first rollout", low=0.0)
    cost: str = option("", "Verifier whose verdict is the cost; empty: safety, and what it calls unsafe")
    verdicts: list[str] = option([], "Its verdicts that cost 1")

    def __post_init__(self) -> None:
        """UsageError for a verifier without verdicts, and for verdicts without one."""
        if bool(self.cost) != bool(self.verdicts):
            raise UsageError(
                "[train.advantages.lagrangian] needs cost and verdicts together",
                'cost = "reliability", verdicts = ["certain_incorrect"]',
            )


def carry(batch: Batch) -> Carried:
    """Lambda after one step of dual ascent on this rollout; InputError where the verifier never judged."""
    costs = known([cost for costs_G in _costs(batch) for cost in costs_G])
    if not costs:
        name = batch.settings.cost or "safety"
        raise InputError(
            f"advantage = lagrangian, and the {name} verifier judged no completion of the rollout",
            f'cosmo score it with --set \'also=["refusal", "{name}"]\', or choose another --advantage',
        )
    before = batch.carried.get(LAMBDA, batch.settings.start)
    return {LAMBDA: max(0.0, before + batch.settings.lr * (mean(costs) - batch.settings.bound))}


def advantages(batch: Batch) -> Advantages:
    """Both advantages, weighed by the lambda carried."""
    weight = batch.carried[LAMBDA]
    found: Advantages = []
    for rewards_G, costs_G in zip(batch.rewards, _costs(batch), strict=True):
        pairs = zip(centred(rewards_G), centred(costs_G), strict=True)
        found.append([None if r is None else (r - weight * (c or 0.0)) / (1.0 + weight) for r, c in pairs])
    return found


def _costs(batch: Batch) -> Values:
    if not batch.settings.cost:
        return batch.costs
    bad = set(batch.settings.verdicts)
    return [
        [None if g is None or g.value is None else float(g.verdict in bad) for g in grades_G]
        for grades_G in batch.grades[batch.settings.cost]
    ]


def reads(settings: LagrangianSettings) -> tuple[str, ...]:
    """The verifier that is the cost, where another than safety is."""
    return (settings.cost,) if settings.cost else ()


PLUGIN = AdvantagePlugin(
    version=1, advantages=advantages, settings=LagrangianSettings, carry=carry, cost_weight=LAMBDA, reads=reads
)
