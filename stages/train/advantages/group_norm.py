"""Group-normalised reward: w(x) = 1 / (std + 1e-9), unbiased (arXiv:2505.12504, section 3)."""

from __future__ import annotations

from stages.train.advantages.base import AdvantagePlugin, Advantages, Batch, centred, std

# As in the CPGD authors' code; TRL's GRPO has 1e-4 (`grpo_norm`), which shrinks advantages of rewards that lie close.
EPSILON = 1e-9


def advantages(batch: Batch) -> Advantages:
    """A_k = (R_k - mean R) / (std R + 1e-9) for each group."""
    return [centred(rewards_G, 1.0 / (std(rewards_G) + EPSILON)) for rewards_G in batch.rewards]


PLUGIN = AdvantagePlugin(version=1, advantages=advantages)
