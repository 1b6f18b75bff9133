"""Reward minus its group's mean: equal weights, w(x) = 1 (arXiv:2505.12504, eq. 1)."""

from __future__ import annotations

from stages.train.advantages.base import AdvantagePlugin, Advantages, Rewards, centred


def advantages(rewards: Rewards) -> Advantages:
    """A_k = R_k - mean R for each group."""
    return [centred(rewards_G) for rewards_G in rewards]


PLUGIN = AdvantagePlugin(version=1, advantages=advantages)
