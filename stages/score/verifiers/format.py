"""Form: 1 when one think block, with nothing before it, is followed by an answer.

Formula: METHODS' format reward (COSMO-RL, arXiv:2510.04196). Reads the raw completion's form and nothing of its
sense.
"""

from __future__ import annotations

from schemas.rollouts import Completion, RolloutGroup
from stages.judging.parsed import ParsedCompletion
from stages.score.verifiers.base import Judgement, Verifier, judged


def judge(group: RolloutGroup, completion: Completion, parsed: ParsedCompletion) -> Judgement:
    """1.0 well_formed, 0.0 malformed with the flaw as the reason."""
    return judged(1.0, "well_formed") if parsed.well_formed else judged(0.0, "malformed", parsed.flaw)


PLUGIN = Verifier(version=1, judge=judge)
