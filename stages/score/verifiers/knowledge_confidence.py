"""Knowledge, aware of confidence: right and sure 1, right but unsure less, wrong but unsure more than wrong and sure.

METHODS' knowledge verifier has a form in which low-confidence guesses earn less; deliberative search (arXiv:2507.16727)
rewards accuracy + lambda * reliability, with reliability 1 for certain-and-right and for uncertain-and-wrong. This is
the second by rule, brought to [0, 1], on what the completion itself says of its confidence
(`stages.score.rules.confidence`):

    value = (r_acc + L * r_reliab) / (1 + L),   L = 1/2:   sure and right 1, unsure and right 2/3,
                                                           unsure and wrong 1/3, sure and wrong 0

At any L, saying that one is unsure pays exactly when the chance to be right is below a half. Ours are a fixed L, where
the paper raises it while certain answers are wrong too often, and 1/2: below 1 no wrong completion outdoes a right one.
A completion that says nothing of its confidence counts as sure and gets what `knowledge` gives it.
"""

from __future__ import annotations

from schemas.rollouts import Completion, RolloutGroup
from schemas.verdicts import CORRECT, INCORRECT, REFUSED
from stages.judging.parsed import ParsedCompletion
from stages.score.answers.match import match
from stages.score.rules.confidence import confidence
from stages.score.rules.refusal_phrases import refusal
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, judged, undecided

LAMBDA = 0.5


def judge(group: RolloutGroup, completion: Completion, parsed: ParsedCompletion) -> Judgement:
    """correct 1, unsure_correct 2/3, unsure_incorrect 1/3, incorrect and refused 0."""
    if group.answer is None:
        return does_not_apply("the row has no reference answer")
    certain, words, rest = confidence(parsed.answer, group.answer)
    right, seen, reason, _ = match(group, rest)
    if not right and refusal(parsed.answer):
        return judged(0.0, REFUSED, reason, seen)
    if right is None:
        return undecided(reason or "the rule can't tell", seen)
    verdict = ("" if certain else "unsure_") + (CORRECT if right else INCORRECT)
    value = (right + LAMBDA * (certain == right)) / (1 + LAMBDA)
    says = None if words is None else f"says {words!r}"
    return judged(value, verdict, "; ".join(part for part in (reason, says) if part) or None, seen)


PLUGIN = Verifier(version=6, judge=judge)
