"""REINFORCE++: PPO's clipped ratio, no critic, advantages normalised over the whole batch (arXiv:2501.03262).

    A    = (R - mean R of the batch) / std R of the batch
    loss = - mean over completions, mean over tokens of min(r * A, clip(r, 1 - clip_low, 1 + clip_high) * A)

A group of equal rewards is not flat here: it is compared with the other groups. Here the mean and the deviation of A
are over completions; the authors' code takes them, and the mean of the loss, over tokens:
`[train.advantages.batch_norm] over = "tokens"` and `aggregation = "global_tokens"`.
"""

from __future__ import annotations

from stages.train.losses.base import SEQUENCE_MEAN, LossPlugin, clipped_ratio

PLUGIN = LossPlugin(version=1, per_token=clipped_ratio, aggregation=SEQUENCE_MEAN, advantage="batch_norm")
