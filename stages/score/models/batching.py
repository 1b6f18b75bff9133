"""Model verifiers over a shard: a window of groups at a time gives a model much to do and bounds memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from schemas.rollouts import RolloutGroup
from schemas.scored import Grade
from stages.core.stage import Context
from stages.score.grading import Grader, ModelGrades
from stages.score.verifiers.base import GradeGroups, ModelVerifier

Opened = Mapping[str, tuple[ModelVerifier, GradeGroups]]
"""Model verifiers by name, ready to grade."""


def open_models(grader: Grader, ctx: Context) -> dict[str, tuple[ModelVerifier, GradeGroups]]:
    """The model verifiers that this run uses, opened."""
    models = {name: v for name, v in sorted(grader.verifiers.items()) if isinstance(v, ModelVerifier)}
    return {name: (v, v.open(ctx)) for name, v in models.items()}


def with_model_grades(
    grader: Grader, opened: Opened, groups: Iterable[RolloutGroup], size: int
) -> Iterator[tuple[RolloutGroup, ModelGrades]]:
    """Every group with what the model verifiers say of it, in order; `size` groups are asked about at once."""
    waiting = iter(groups)
    while window := list(islice(waiting, size)):
        given: list[dict[str, Mapping[int, Grade]]] = [{} for _ in window]
        for name, (verifier, grade_groups) in opened.items():
            ungraded = [grader.ungraded(verifier, group) for group in window]
            asked = [(at, w) for at, w in enumerate(ungraded) if w.completions]
            answered = verifier.grades(grade_groups, [w for _, w in asked]) if asked else []
            for (at, w), grades in zip(asked, answered, strict=True):
                # By the completion's own number: those that had a grade already were not asked about.
                given[at][name] = {c.index: grade for c, grade in zip(w.completions, grades, strict=True)}
        yield from zip(window, given, strict=True)
