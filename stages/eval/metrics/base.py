"""What a metric is: a rule that turns one prompt's completions into values, and its meaning for a reader.

A metric plugin is one file with `PLUGIN = Metric(...)`. Its rule sees one group of one policy and returns
what it observed; intervals, slices, comparisons and plots are shared and live elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from schemas.prompts import HELDOUT_FAMILY
from schemas.scored import OK, UNDECIDED, Grade, counting
from stages.eval.metrics.calibration import BINS
from stages.eval.views import CompletionView, GroupView

Failed = Literal["failed", "undecided"]
FAILED: Failed = "failed"
NOT_DECIDED: Failed = "undecided"
SAFETY_LABELS = frozenset({"safety", "jailbreak"})


@dataclass(frozen=True, slots=True)
class Settings:
    """What a rule may know beyond the group."""

    heldout_families: frozenset[str] = frozenset()
    """Families that training never saw; empty: rows say so by their flag."""
    bins: int = BINS
    """Bins of a calibration error."""

    def is_heldout(self, group: GroupView) -> bool:
        """Whether the group's augmentation family was kept out of training."""
        if self.heldout_families:
            return group.family in self.heldout_families
        return HELDOUT_FAMILY in group.flags


@dataclass(frozen=True, slots=True)
class Observed:
    """One prompt's part in a metric."""

    values: list[float]
    """One value a completion that could be judged."""
    failed: int = 0
    """Completions left out: the sample or its grade failed. Never counted as 0."""
    undecided: int = 0
    """Completions left out: who graded them could not tell."""
    sizes: list[float] | None = None
    """Of a ratio, what each value is a part of; as many as there are values."""
    stated: list[float] | None = None
    """Of a calibration error, how likely each completion says that its value is 1; as many as there are values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric: its rule, and how a reader is to take its values."""

    title: str
    """What a person reads in the report; of a benchmark's figure without the benchmark."""
    version: int
    """Raised when the rule changes."""
    better: Literal["higher", "lower", "neither"]
    """Which way is good."""
    rate: bool
    """True: values lie in [0, 1] and the mean is a rate. False: a mean of anything."""
    order: int
    """Where it stands in tables; small first."""
    headline: bool
    """Whether it stands in the first table, or only among the details."""
    observe: Callable[[GroupView, Settings], Observed | None]
    """The rule; None where the metric does not apply to the prompt."""
    of: str = ""
    """The benchmark whose figure it is, by its title; "" for a metric of all rows."""
    judged_by: tuple[str, ...] = ()
    """The grades whose verdicts it counts, where the figure is worth what they are.

    It is printed with who gave them, and with what to type for a judge where too many are undecided."""
    bare: bool = False
    """Whether a figure of verdicts is printed even so, with the share that it leaves out."""
    about: str = ""
    """What is counted, in a sentence or two; of a plugin its file's docstring says it."""
    slices: Callable[[GroupView], list[str]] | None = None
    """The slices that a prompt belongs to, `all` aside; None for label, task and family."""
    unit: Callable[[GroupView], str] | None = None
    """Prompts of one unit count as one, by the worst of them; None where every prompt counts by itself."""
    majority: bool = False
    """Whether a prompt counts as most of its completions do, 1 or 0; else it counts as their mean."""
    ratio: bool = False
    """Whether values are summed and divided by the sum of their sizes, as F1 is."""
    calibration: bool = False
    """Whether the figure is how far what is stated lies from the values: see `stages.eval.metrics.calibration`."""

    @property
    def full_title(self) -> str:
        """The title where figures of several benchmarks stand together: `POPE: accuracy`."""
        return f"{self.of}: {self.title[:1].lower()}{self.title[1:]}" if self.of else self.title

    @property
    def refused(self) -> bool:
        """Whether it is not printed where too many verdicts are undecided."""
        return bool(self.judged_by) and not self.bare


Judgement = float | Failed | None


def collect(group: GroupView, judge: Callable[[CompletionView], Judgement]) -> Observed | None:
    """Judge each completion; None when it applied to none. A sample that never came counts as failed."""
    values, failed, undecided = [], 0, 0
    for completion in group.completions:
        # Before the judge is asked: there is no text, and a grade of it would be a grade of nothing.
        found = FAILED if completion.finish_reason == "error" else judge(completion)
        if found == FAILED:
            failed += 1
        elif found == NOT_DECIDED:
            undecided += 1
        elif found is not None:
            values.append(float(found))
    return Observed(values, failed, undecided) if values or failed or undecided else None


def was_asked(group: GroupView, verifier: str) -> bool:
    """Whether a verifier graded any of a group's completions; those that failed are no failures of one never asked."""
    return any(verifier in completion.grades for completion in group.completions)


def first_grade(completion: CompletionView, *names: str) -> Grade | Failed | None:
    """The first of the named verifiers' grades that is ok; else failed or undecided if one is; else None.

    Of what a verifier left to another one, that one's grade is meant.
    """
    found = [grade for name in names if (grade := counting(completion.grades, name)) is not None]
    # The first that applied: of `answer` and `knowledge` a row mostly has one.
    usable = next((g for g in found if g.status == OK and g.value is not None), None)
    if usable is not None:
        return usable
    if any(g.failed for g in found):
        return FAILED
    return NOT_DECIDED if any(g.status == UNDECIDED for g in found) else None


def first_class(completion: CompletionView, *names: str) -> Grade | Failed | None:
    """`first_grade`, and where that is none a class that somebody gave and that is worth nothing by itself."""
    found = first_grade(completion, *names)
    if found is not None:
        return found
    given = (counting(completion.grades, name) for name in names)
    return next((grade for grade in given if grade and grade.status == OK and grade.verdict), None)


def grade_value(*names: str) -> Callable[[CompletionView], Judgement]:
    """A judge that takes the grade's value as it is."""

    def judge(completion: CompletionView) -> Judgement:
        grade = first_grade(completion, *names)
        return grade.value if isinstance(grade, Grade) else grade

    return judge


def grade_above(bar: float, *names: str) -> Callable[[CompletionView], Judgement]:
    """A judge that is 1 where the grade is above the bar, else 0."""
    value = grade_value(*names)

    def judge(completion: CompletionView) -> Judgement:
        found = value(completion)
        return float(found > bar) if isinstance(found, int | float) else found

    return judge
