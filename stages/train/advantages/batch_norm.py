"""Reward normalised over the whole rollout, groups ignored: REINFORCE++ (arXiv:2501.03262, section 3).

    A = (R - mean R of the rollout) / std R of the rollout

The means are over completions. The authors' code (OpenRLHF) takes them over tokens, each with its completion's reward,
so that a completion counts as often as it has tokens: `over = "tokens"`, with the variance as it is there, divided by
the number of tokens and at least 1e-8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stages.core.config import option
from stages.train.advantages.base import AdvantagePlugin, Advantages, Batch, centred, std

EPSILON = 1e-9
LEAST_VARIANCE = 1e-8
COMPLETIONS, TOKENS = "completions", "tokens"


@dataclass(frozen=True)
class BatchNormSettings:
    """[train.advantages.batch_norm]: what the mean and the deviation are taken over."""

    over: str = option(
        COMPLETIONS,
        "What mean and deviation are taken over; tokens: as the authors' code",
        choices=(COMPLETIONS, TOKENS),
    )


def advantages(batch: Batch) -> Advantages:
    """A = (R - mean R of the rollout) / (std R of the rollout + 1e-9): also for a group whose rewards are equal."""
    rewards_N = [reward for rewards_G in batch.rewards for reward in rewards_G]
    if batch.settings.over == TOKENS:
        lengths_N = [length for lengths_G in batch.lengths for length in lengths_G]
        values = iter(_by_token(rewards_N, lengths_N))
    else:
        values = iter(centred(rewards_N, 1.0 / (std(rewards_N) + EPSILON)))
    return [[next(values) for _ in rewards_G] for rewards_G in batch.rewards]


def _by_token(rewards_N: list[float | None], lengths_N: list[int]) -> list[float | None]:
    """(R - mean) / deviation, both over the tokens of completions that have a reward."""
    pairs = [(reward, length) for reward, length in zip(rewards_N, lengths_N, strict=True) if reward is not None]
    tokens = sum(length for _, length in pairs)
    if not tokens:
        return [None] * len(rewards_N)
    middle = math.fsum(reward * length for reward, length in pairs) / tokens
    variance = math.fsum((reward - middle) ** 2 * length for reward, length in pairs) / tokens
    scale = 1.0 / math.sqrt(max(variance, LEAST_VARIANCE))
    return [None if reward is None else (reward - middle) * scale for reward in rewards_N]


PLUGIN = AdvantagePlugin(version=1, advantages=advantages, settings=BatchNormSettings)
