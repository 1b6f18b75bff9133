"""One input folder as RL learns from it: its groups with their advantages, dealt to updates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.tables import SCORED
from stages.core.errors import InputError
from stages.core.registry import load
from stages.core.runs.folder import RunFolder
from stages.train.advantages.base import Carried
from stages.train.config import TrainConfig
from stages.train.rl.batches import (
    Group,
    Reject,
    TrainCompletion,
    Update,
    estimate_advantages,
    make_groups,
    make_updates,
    usable,
)


@dataclass(frozen=True, slots=True)
class Rollout:
    """What one policy sampled at once, ready to be learned from."""

    number: int
    """Which of the lineage's rollouts, from 0."""
    updates: list[Update]
    """Its optimizer steps; with more than one epoch they are taken again in the same order."""
    banned_token_ids: list[int]
    """Ids that its sampler could not give."""
    carried_before: Carried
    """What its advantages were estimated with: a checkpoint keeps this, and a resumed rollout is estimated again."""
    carried_after: Carried
    """What the estimator hands on to the next rollout."""

    cost_weight: float | None
    """What an unsafe completion cost, for an estimator that has a price of it; None for the others."""

    def completions(self) -> Iterator[TrainCompletion]:
        """The completions that are learned from, in the order of the updates."""
        return (c for update in self.updates for group in update.live for c in group.completions)


def rollouts_of(folders: list[RunFolder], config: TrainConfig) -> list[list[RunFolder]]:
    """Which input folders make up each rollout: one each, or all of them one."""
    return [list(folders)] if config.one_rollout else [[folder] for folder in folders]


def read_rollouts(
    rollouts: list[list[RunFolder]], number: int, config: TrainConfig, carried: Carried, reject: Reject
) -> Iterator[Rollout]:
    """Each rollout's folders in turn, read when they are asked for; the first is the lineage's rollout `number`.

    What an estimator carries goes from one to the next.
    """
    for at, folders in enumerate(rollouts, start=number):
        rollout = read_rollout(folders, at, config, carried, reject)
        carried = rollout.carried_after
        yield rollout


def read_rollout(
    folders: list[RunFolder], number: int, config: TrainConfig, carried: Carried, reject: Reject
) -> Rollout:
    """The folders' usable groups with advantages, weights and updates; what can't be used is rejected.

    InputError where no group is left, and where its groups ban different tokens.
    """
    groups: list[Group] = []
    for folder in folders:
        rows = usable(folder.rows(SCORED), folder.path.name, config, reject)
        groups += make_groups(rows, folder.path.name, config, reject)
    where = ", ".join(folder.where for folder in folders)
    if not groups:
        raise InputError(f"{where} has no group to train on", "its rejected rows say why")
    banned = groups[0].row.banned_token_ids
    # One list a forward pass: the log-probs of a packed micro-batch are renormalised without these ids.
    if any(group.row.banned_token_ids != banned for group in groups):
        raise InputError(f"{where}: its groups ban different tokens", "different policies sampled them: split it")
    # Over the whole rollout, before it is dealt to updates: some estimators compare groups with each other.
    after = estimate_advantages(groups, config, carried)
    price = load("advantage", str(config.advantage)).cost_weight
    cost_weight = after.get(price) if price else None
    return Rollout(number, make_updates(groups, config, number), list(banned), carried, after, cost_weight)
