"""Verifiers that grade a completion step by step: a function from a row and its completion's steps to a judgement each.

A step verifier is a verifier like any other, one file `stages/score/verifiers/<name>.py`:

    \"""Short steps: 1 for a step of at most ten words.\"""

    from stages.score.verifiers.base import judged
    from stages.score.verifiers.by_steps import by_steps

    def judge(row, steps):
        return [judged(float(len(step.text.split()) <= 10), "counted") for step in steps]

    PLUGIN = by_steps(1, judge)

Its grade holds a grade a step (`Grade.steps`), and has the value that they make together (`[score.steps] value`): a
term of a reward as others are, and what guided sampling goes by (`[rollout.guide] verifiers`). A step without anything
to look up gets `does_not_apply(...)`, and counts for nothing. Steps are split where guided sampling splits
(`stages.engines.steps`); each knows what an environment had said before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from schemas.prompts import PromptRow
from schemas.rollouts import Completion, RolloutGroup
from schemas.scored import NOT_APPLICABLE, OK, UNDECIDED, StepGrade
from stages.engines.steps import TextStep, text_steps
from stages.judging.parsed import ParsedCompletion
from stages.score.config import ScoreConfig, StepsTable
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, failed, finite_value, judged, with_settings

StepJudge = Callable[[PromptRow, Sequence[TextStep]], Sequence[Judgement]]
SUPPORTED, UNSUPPORTED, PARTLY = "supported", "unsupported", "partly"
LOWEST = "lowest"
_SILENT = (NOT_APPLICABLE, UNDECIDED)
_QUOTED = 60
"""Characters of a step that a reason quotes."""


def by_steps(version: int, judge: StepJudge) -> Verifier:
    """The verifier of this rule, called as the rule's module is; its settings are `[score.steps]`."""
    name = judge.__module__.rpartition(".")[2]
    verifier = Verifier(version, partial(_judge_completion, name, judge), name, steps=judge)

    def bind(config: ScoreConfig) -> Verifier:
        return with_settings(verifier, config.steps)

    return replace(verifier, bind=bind)


def _judge_completion(
    name: str,
    judge: StepJudge,
    group: RolloutGroup,
    completion: Completion,
    parsed: ParsedCompletion,
    settings: StepsTable = StepsTable(),  # noqa: B008 (frozen)
) -> Judgement:
    steps = text_steps(completion.text, settings.split, completion.observed)
    return of_steps(name, steps, list(judge(group, steps)), settings)


def of_steps(name: str, steps: Sequence[TextStep], judgements: Sequence[Judgement], settings: StepsTable) -> Judgement:
    """What the judgements of a completion's steps make: its grade with theirs.

    A failed one is a failed grade: never a mean over those that happened to be answered. ValueError unless there is
    one for each step, with a finite number for a value.
    """
    if len(judgements) != len(steps):
        raise ValueError(f"{name} gave {len(judgements)} judgements of {len(steps)} steps")
    for judgement in judgements:
        if judgement.status not in (OK, *_SILENT):
            return failed(judgement.reason or "a step failed", judgement.status)
    grades = [_step_grade(name, *pair) for pair in zip(steps, judgements, strict=True)]
    values = [grade.value for grade in grades if grade.value is not None]
    if not values:
        return does_not_apply("no step says anything to look up")._replace(steps=grades)
    worst = min(values)
    value = worst if settings.value == LOWEST else math.fsum(values) / len(values)
    verdict = SUPPORTED if worst >= 1 else UNSUPPORTED if max(values) <= 0 else PARTLY
    first = next((at for at, grade in enumerate(grades) if grade.value == worst and worst < 1), None)
    reason = None if first is None else f"{grades[first].verdict or grades[first].value}: {quoted(steps[first].text)}"
    seen = f"{sum(v >= 1 for v in values)} of {len(values)} steps supported"
    return judged(value, verdict, reason, seen)._replace(steps=grades)


def _step_grade(name: str, step: TextStep, judgement: Judgement) -> StepGrade:
    value = finite_value(judgement.value, name) if judgement.status == OK else None
    return StepGrade(start=step.start, stop=step.stop, value=value, verdict=judgement.verdict, reason=judgement.reason)


def quoted(text: str) -> str:
    """A text on one line, cut where it is long."""
    words = " ".join(text.split())
    return words if len(words) <= _QUOTED else words[: _QUOTED - 4] + " ..."
