"""Model verifiers over a shard: a window of groups at a time gives a model much to do and bounds memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from schemas.rollouts import RolloutGroup
from schemas.scored import Grade, ScoredGroup
from stages.core.parallel_map import in_order
from stages.core.stage import Context
from stages.score.grading import Grader, ModelGrades
from stages.score.verifiers.base import GradeGroups, ModelVerifier, Ungraded

G = TypeVar("G", bound=RolloutGroup)
Opened = Mapping[str, tuple[ModelVerifier, GradeGroups]]
"""Model verifiers by name, ready to grade."""


def open_models(grader: Grader, ctx: Context) -> dict[str, tuple[ModelVerifier, GradeGroups]]:
    """The model verifiers that this run uses, opened."""
    models = {name: v for name, v in sorted(grader.verifiers.items()) if isinstance(v, ModelVerifier)}
    return {name: (v, v.open(ctx)) for name, v in models.items()}


def graded(
    grader: Grader, opened: Opened, groups: Iterable[RolloutGroup], window: int, workers: int
) -> Iterator[ScoredGroup]:
    """The groups graded, in order: by models, then by rules, then by models that rules leave something to.

    A model is asked about `window` groups at once; rules grade `workers` groups at a time.
    """
    if not opened:
        return in_order(grader.group, groups, workers)
    asked = with_model_grades(grader, opened, groups, window)
    scored = in_order(lambda pair: grader.group(*pair), asked, workers)
    deciders = {name: opened[name] for name in sorted(set(grader.left_to.values())) if name in opened}
    if not deciders:
        return scored
    # What is undecided is known only now, and most groups are left nobody's.
    judged = _with_grades(deciders, scored, window, grader.left_open)
    return (grader.decided(group, given) if given else group for group, given in judged)


def with_model_grades(
    grader: Grader, opened: Opened, groups: Iterable[RolloutGroup], size: int
) -> Iterator[tuple[RolloutGroup, ModelGrades]]:
    """Every group with what the model verifiers say of it, in order; `size` groups are asked about at once."""
    return _with_grades(opened, groups, size, grader.ungraded)


def _with_grades(
    opened: Opened, groups: Iterable[G], size: int, which: Callable[[ModelVerifier, G], Ungraded]
) -> Iterator[tuple[G, ModelGrades]]:
    """Every group with what the models say of `which` of its completions, in order; `size` groups at once."""
    waiting = iter(groups)
    while window := list(islice(waiting, size)):
        given: list[dict[str, Mapping[int, Grade]]] = [{} for _ in window]
        for name, (verifier, grade_groups) in opened.items():
            ungraded = [which(verifier, group) for group in window]
            asked = [(at, w) for at, w in enumerate(ungraded) if w.completions]
            answered = verifier.grades(grade_groups, [w for _, w in asked]) if asked else []
            for (at, w), grades in zip(asked, answered, strict=True):
                # By the completion's own number: those that had a grade already were not asked about.
                given[at][name] = {c.index: grade for c, grade in zip(w.completions, grades, strict=True)}
        yield from zip(window, given, strict=True)
