"""What `score` writes: the same groups with every grade and the reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from schemas.rollouts import Completion, RolloutGroup


class GradeStatus(StrEnum):
    """Whether a grade has a value, and why not."""

    OK = "ok"
    """There is a value."""
    NOT_APPLICABLE = "not_applicable"
    """The verifier has nothing to say of such a row: no failure, and no zero."""
    UNDECIDED = "undecided"
    """The rule can't tell from the text alone: no reward, no zero. A judge may be named for just those."""
    TIMEOUT = "timeout"
    """It took too long; `cosmo score` on the scored folder asks again."""
    ERROR = "error"
    """It raised, or gave what is no grade; `cosmo score` on the scored folder asks again."""


# Iterating an enum gives its members in the order in which the class lists them.
OK, NOT_APPLICABLE, UNDECIDED, TIMEOUT, ERROR = GradeStatus
FAILED = (TIMEOUT, ERROR)
"""The statuses of a grade that could not be made: never counted as 0, and not kept when it is graded again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepGrade:
    """What a verifier says of one step of a completion."""

    start: int
    """The place of the step's first character in the completion's text."""
    stop: int
    """The place after its last."""
    value: float | None
    """The step's score, mostly 0 to 1; None where there is nothing in it to look up."""
    verdict: str | None = None
    """The class behind the number: `supported`, `unsupported`, or of the verifier's own."""
    reason: str | None = None
    """Why, in one short line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """One verifier's opinion of one completion."""

    name: str
    """The verifier."""
    version: int
    """Its version; raised when its rule changes, so cached grades are not mixed."""
    value: float | None
    """The score, a finite number, mostly 0 to 1; None unless the status is ok. Does-not-apply is None, never 0."""
    status: GradeStatus
    """ok, not_applicable, undecided, timeout or error."""
    verdict: str | None = None
    """The class behind the number: one of `schemas.verdicts`, or of the verifier's own."""
    reason: str | None = None
    """Why, in one short line."""
    seen: str | None = None
    """What the verifier extracted and judged (a parsed answer), where that differs from the completion."""
    left_to: str | None = None
    """Of an undecided grade: the verifier that was asked in its place, and whose grade counts."""
    steps: list[StepGrade] | None = None
    """The grades of the completion's steps, in order, where the verifier gives them; its value is made of theirs."""

    @property
    def failed(self) -> bool:
        """Whether it is a timeout or an error."""
        return self.status in FAILED


@dataclass(frozen=True, slots=True)
class Term:
    """One weighted part of a reward."""

    name: str
    """The verifier whose grade it is."""
    weight: float
    """Its weight in the label's formula."""
    value: float | None
    """Its grade; None when it did not apply or failed, and then it adds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredCompletion(Completion):
    """A completion with its grades; the reward is derived from them and can be reweighed."""

    grades: list[Grade] = field(default_factory=list)
    """Every verifier's grade, by name."""
    terms: list[Term] = field(default_factory=list)
    """The formula's terms, in order."""
    reward: float | None = None
    """Sum of weight x value over the terms; None when no term of the task has a value, or one that is needed failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredGroup(RolloutGroup):
    """A rollout group whose completions are graded."""

    completions: list[ScoredCompletion] = field(default_factory=list)  # type: ignore[assignment]
    """The group's graded completions, in index order: G of them."""
    reward_formula: str = ""
    """The reward formula of the label, as `combine: name*weight + ...`."""


def grade_of(completion: ScoredCompletion, name: str) -> Grade | None:
    """The grade that counts as that verifier's, or None when it did not run; see `counting`."""
    return counting({g.name: g for g in completion.grades}, name)


def counting(grades: Mapping[str, Grade], name: str) -> Grade | None:
    """The grade that counts as that verifier's: its own, or that of the verifier which it was left to."""
    grade = grades.get(name)
    return grade if grade is None or grade.left_to is None else grades.get(grade.left_to, grade)


LEAST_SHARE, MOST_SHARE = 0.01, 0.99
"""Of a group that can be learned from, the mean value lies between them: not all wrong and not all right."""


def is_live(rewards: Sequence[float | None], values: Sequence[float | None] = ()) -> bool:
    """Whether a group can be learned from: by one verifier's values where it has any, else by its rewards.

    By values it can where their mean lies between LEAST_SHARE and MOST_SHARE, whatever other terms of the reward
    differ in; by rewards, where they are not all alike.
    """
    known = [value for value in values if value is not None]
    if known:
        return LEAST_SHARE < sum(known) / len(known) < MOST_SHARE
    return len({reward for reward in rewards if reward is not None}) > 1


def counting_value(grades: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The value of the grade that counts as that verifier's, of grades as plain records; None without one."""
    by_name = {grade["name"]: grade for grade in grades}
    grade = by_name.get(name)
    if grade is not None and grade["left_to"] is not None:
        grade = by_name.get(grade["left_to"], grade)
    return None if grade is None else grade["value"]
