"""Answers elected by several completions: each has one vote, or as many as it says it is sure (arXiv:2507.16727).

Votes are those of the first m completions that were sampled, answers are alike where their words are. A completion
without a stated confidence has the vote of one that is certain, 5 of 10. Ties go to the answer that came first.

`weighted_vote` and `majority_vote` count all completions, `stages.eval.metrics.votes:weighted_vote_at_4` the first
four, and so on for 1, 2, 4 and 8.
"""

from __future__ import annotations

from collections.abc import Callable

from schemas.scored import Grade
from stages.eval.metrics.base import FAILED, NOT_DECIDED, Metric, Observed, Settings, first_grade, was_asked
from stages.eval.views import CompletionView, GroupView
from stages.judging.parsed import SEARCH, ParsedCompletion, parse_completion

UNSTATED = 5.0
RIGHT = ("answer", "knowledge", "knowledge_confidence", "value")
Weight = Callable[[ParsedCompletion], float]


def stated(parsed: ParsedCompletion) -> float:
    """As many votes as the completion says it is sure."""
    return UNSTATED if parsed.confidence is None else float(parsed.confidence)


def one_each(parsed: ParsedCompletion) -> float:
    """One vote, however sure it is."""
    return 1.0


def elected(group: GroupView, most: int, weight: Weight) -> CompletionView | None:
    """The first completion with the answer of most votes, of the first `most`; None where none was sampled."""
    votes: dict[str, float] = {}
    first: dict[str, CompletionView] = {}
    for completion in sorted(group.completions, key=lambda c: c.index)[: most or None]:
        if completion.finish_reason != "error":
            parsed = parse_completion(completion.text, SEARCH)
            answer = " ".join(parsed.answer.lower().split())
            votes[answer] = votes.get(answer, 0.0) + weight(parsed)
            first.setdefault(answer, completion)
    # `max` gives the first of several, and answers are in the order of their coming.
    return first[max(votes, key=lambda answer: votes[answer])] if votes else None


def vote(title: str, weight: Weight, most: int = 0) -> Metric:
    """The share of prompts whose elected answer is right; `most` completions vote, 0: all of them."""

    def observe(group: GroupView, settings: Settings) -> Observed | None:
        # What says how sure it is is what votes are for: other rows have none.
        if group.answer is None or not was_asked(group, "reliability"):
            return None
        if (chosen := elected(group, most, weight)) is None:
            return Observed([], failed=1)
        grade = first_grade(chosen, *RIGHT)
        if not isinstance(grade, Grade):
            return None if grade is None else Observed([], int(grade == FAILED), int(grade == NOT_DECIDED))
        return Observed([float((grade.value or 0.0) > 0.5)])

    order = 90 + 2 * most + (weight is one_each)
    return Metric(
        title=title + (f" of {most}" if most else ""),
        version=1,
        better="higher",
        rate=True,
        order=order,
        headline=True,
        observe=observe,
        about=__doc__ or "",
    )


WEIGHTED, MAJORITY = "Right by votes weighted with confidence", "Right by majority"
weighted_vote_at_1, weighted_vote_at_2 = vote(WEIGHTED, stated, 1), vote(WEIGHTED, stated, 2)
weighted_vote_at_4, weighted_vote_at_8 = vote(WEIGHTED, stated, 4), vote(WEIGHTED, stated, 8)
majority_vote_at_1, majority_vote_at_2 = vote(MAJORITY, one_each, 1), vote(MAJORITY, one_each, 2)
majority_vote_at_4, majority_vote_at_8 = vote(MAJORITY, one_each, 4), vote(MAJORITY, one_each, 8)
