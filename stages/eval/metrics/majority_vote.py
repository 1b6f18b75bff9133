"""Right by majority: share of prompts for which the most frequent answer of their completions is right.

Beside `weighted_vote`, on the same rows: those that `reliability` graded.
"""

from __future__ import annotations

from stages.eval.metrics.votes import MAJORITY, one_each, vote

PLUGIN = vote(MAJORITY, one_each)
