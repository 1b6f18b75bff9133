"""Right by votes weighted with confidence: share of prompts whose elected answer is right (arXiv:2507.16727).

All completions of a prompt vote, each as much as it says it is sure. Rows that `reliability` graded. The rule is in
`stages.eval.metrics.votes`, and the same for the first 1, 2, 4 or 8 completions.
"""

from __future__ import annotations

from stages.eval.metrics.votes import WEIGHTED, stated, vote

PLUGIN = vote(WEIGHTED, stated)
