"""Reliability: 1 for a completion that is certain and right, or uncertain and wrong (arXiv:2507.16727).

Certain is a confidence of 5 or more of 10: the number in `<confidence>` in the layout `search`, else what the answer
says of itself (`stages.score.rules.confidence`); one that says nothing is certain. Whether it is right is decided as
`answer` decides it.
"""

from __future__ import annotations

from schemas.rollouts import Completion, RolloutGroup
from schemas.verdicts import CORRECT, INCORRECT
from stages.judging.parsed import ParsedCompletion
from stages.score.answers.match import match
from stages.score.rules.confidence import CERTAIN_FROM, confidence
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, judged, undecided


def judge(group: RolloutGroup, completion: Completion, parsed: ParsedCompletion) -> Judgement:
    """certain_correct and uncertain_incorrect 1, certain_incorrect and uncertain_correct 0."""
    if group.answer is None:
        return does_not_apply("the row has no reference answer")
    if parsed.confidence is not None:
        certain, answer = parsed.confidence >= CERTAIN_FROM, parsed.answer
        says: str | None = f"confidence {parsed.confidence}"
    else:
        certain, says, answer = confidence(parsed.answer, group.answer)
    right, seen, reason, _ = match(group, answer)
    if right is None:
        return undecided(reason or "the rule can't tell", seen)
    verdict = f"{'certain' if certain else 'uncertain'}_{CORRECT if right else INCORRECT}"
    return judged(float(certain == right), verdict, says, seen)


PLUGIN = Verifier(version=3, judge=judge)
