"""DAPO: GRPO's clipped ratio, clipped higher above than below, every token equal (arXiv:2503.14476).

    loss = - 1 / tokens of the step * sum of min(r * A, clip(r, 1 - 0.2, 1 + 0.28) * A)         (eq. 8)

Its dynamic sampling is `[train] flat_by = "answer"` and a phase's `refill = 3`: groups that are all right or all wrong
are left out, and further prompts are drawn until the turn has enough others, or so many times. Its penalty for
overlong completions is the verifier `overlong`.
"""

from __future__ import annotations

from stages.train.losses.base import GLOBAL_TOKENS, LossPlugin, clipped_ratio

PLUGIN = LossPlugin(version=1, per_token=clipped_ratio, aggregation=GLOBAL_TOKENS, clip_high=0.28)
