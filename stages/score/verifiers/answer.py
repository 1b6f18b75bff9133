"""Right answer: 1 when it equals the reference, as number, choice, text or mathematics.

By rule where METHODS has a judge with 0, 0.5 and 1: a completion that names the right answer among rivals gets
0, not 0.5, because under RL a sure half for naming everything beats an honest guess.
"""

from __future__ import annotations

from schemas.rollouts import Completion, RolloutGroup
from schemas.verdicts import CORRECT, INCORRECT
from stages.judging.parsed import ParsedCompletion
from stages.score.answers.match import match
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, judged


def judge(group: RolloutGroup, completion: Completion, parsed: ParsedCompletion) -> Judgement:
    """correct 1.0, incorrect 0.0; `seen` is the extracted answer."""
    if group.answer is None:
        return does_not_apply("the row has no reference answer")
    right, seen, reason = match(group, parsed.answer)
    return judged(float(right), CORRECT if right else INCORRECT, reason, seen)


PLUGIN = Verifier(version=2, judge=judge)
