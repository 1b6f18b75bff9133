"""Right answer: 1 when it equals the reference, as number, choice, text or mathematics.

By rule where METHODS has a judge with 0, 0.5 and 1: a completion that names the right answer among rivals gets
0, not 0.5, because under RL a sure half for naming everything beats an honest guess.
"""

from __future__ import annotations

from schemas.rollouts import Completion, RolloutGroup
from schemas.verdicts import CORRECT, INCORRECT
from stages.judging.parsed import ParsedCompletion
from stages.score.answers.match import match
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, judged, undecided


def judge(group: RolloutGroup, completion: Completion, parsed: ParsedCompletion) -> Judgement:
    """correct 1.0, incorrect 0.0 (some of several right options: the part that the row's rule gives), or undecided."""
    if group.answer is None:
        return does_not_apply("the row has no reference answer")
    found = match(group, parsed.answer)
    if found.right is None:
        return undecided(found.reason or "the rule can't tell", found.seen)
    return judged(found.value, CORRECT if found.right else INCORRECT, found.reason, found.seen)


PLUGIN = Verifier(version=7, judge=judge)
