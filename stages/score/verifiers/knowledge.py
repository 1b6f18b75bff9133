"""Knowledge: 1 when a knowledge question is answered right, else 0; refusals are told apart.

METHODS' knowledge verifier by rule: correct 1, else 0, against a gold answer.
"""

from __future__ import annotations

from schemas.rollouts import Completion, RolloutGroup
from schemas.verdicts import CORRECT, INCORRECT, REFUSED
from stages.judging.parsed import ParsedCompletion
from stages.score.answers.match import match
from stages.score.rules.refusal_phrases import refusal
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, judged, undecided


def judge(group: RolloutGroup, completion: Completion, parsed: ParsedCompletion) -> Judgement:
    """correct 1.0; refused and incorrect 0.0; undecided where the rule can't tell."""
    if group.answer is None:
        return does_not_apply("the row has no reference answer")
    found = match(group, parsed.answer)
    if found.right:
        return judged(1.0, CORRECT, None, found.seen)
    if refusal(parsed.answer):
        return judged(0.0, REFUSED, found.reason, found.seen)
    if found.right is None:
        return undecided(found.reason or "the rule can't tell", found.seen)
    return judged(found.value, INCORRECT, found.reason, found.seen)


PLUGIN = Verifier(version=7, judge=judge)
