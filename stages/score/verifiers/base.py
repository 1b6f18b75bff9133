"""What a verifier is: one function from a completion to a judgement, with a version.

A verifier is one file `stages/score/verifiers/<name>.py`:

    \"""Quiet: 1 when the answer has no word in capitals.\"""

    from stages.score.verifiers.base import Judgement, Verifier, judged

    def judge(group, completion, completion) -> Judgement:
        loud = any(word.isupper() for word in completion.answer.split())
        return judged(0.0, "loud") if loud else judged(1.0, "quiet")

    PLUGIN = Verifier(version=1, judge=judge)

The file's name is the verifier's name. A recipe names it as a term; the `also` list runs it beside the
recipe.

A verifier that needs a model grades many completions at once. Its file's PLUGIN is a function of the config:

    def bind(config: ScoreConfig) -> ModelVerifier:
        ref = resolve_policy(config.something.policy)
        return ModelVerifier("quiet_model", {"rule": 1, "policy": ref.id}, lambda ctx: _Quiet(ctx, ref).grade_groups)

    PLUGIN = bind

`bind` runs while planning and loads nothing heavy. `open` runs once a run, before the first row that is graded, and
may load: costly things go through `ctx.resources`, so that they stay warm between stages. The function that it returns
is given a window of groups at a time, each with the completions that lack the grade, and answers with one Judgement
for each of them, in their order. A failure is a `failed(...)` judgement; what it raises becomes an error
grade of the whole window, but for a CosmoError, which ends the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.identity import digest
from schemas.rollouts import Completion, RolloutGroup
from schemas.scored import ERROR, NOT_APPLICABLE, OK, TIMEOUT, Grade
from stages.core.errors import CosmoError
from stages.core.stage import Context
from stages.judging.parsed import ParsedCompletion
from stages.score.answers.math_pool import TimedOut


class Judgement(NamedTuple):
    """A verifier's opinion, before its name and version are put on it."""

    value: float | None
    verdict: str | None = None
    reason: str | None = None
    seen: str | None = None
    status: str = OK


def judged(value: float, verdict: str, reason: str | None = None, seen: str | None = None) -> Judgement:
    """The verifier has an opinion: a number, its class, why, and what was looked at."""
    return Judgement(value, verdict, reason, seen)


def does_not_apply(reason: str) -> Judgement:
    """The verifier has nothing to say about this row; never a zero."""
    return Judgement(None, None, reason, None, NOT_APPLICABLE)


def failed(reason: str, status: str = ERROR) -> Judgement:
    """There is no opinion, and why; `status` is error or timeout. A later run asks again."""
    return Judgement(None, None, " ".join(reason.split())[:200], None, status)


Judge = Callable[[RolloutGroup, Completion, ParsedCompletion], Judgement]


@dataclass(frozen=True)
class Verifier:
    """A judging function with its version. Raise the version whenever some grade could come out otherwise."""

    version: int
    judge: Judge
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.judge.__module__.rpartition(".")[2])

    def grade(self, group: RolloutGroup, completion: Completion, parsed: ParsedCompletion) -> Grade:
        """The judgement as a grade; a verifier that fails gives a grade that says so, and the run goes on."""
        try:
            j = self.judge(group, completion, parsed)
        except CosmoError:
            raise
        except Exception as error:
            j = _raised(error)
        return as_grade(self.name, self.version, j)


def _raised(error: Exception) -> Judgement:
    if isinstance(error, TimedOut):
        return failed(str(error), TIMEOUT)
    return failed(f"{type(error).__name__}: {error}")


def as_grade(name: str, version: int, j: Judgement) -> Grade:
    """A judgement under its verifier's name and version."""
    return Grade(
        name=name,
        version=version,
        value=j.value,
        status=j.status,
        verdict=j.verdict,
        reason=j.reason,
        seen=j.seen,
    )


class Wanted(NamedTuple):
    """A group, and those of its completions that a model verifier is to grade: none of them failed to be sampled."""

    group: RolloutGroup
    completions: list[Completion]


GradeGroups = Callable[[Sequence[Wanted]], list[list[Judgement]]]


@dataclass(frozen=True)
class ModelVerifier:
    """A verifier that needs a model, bound to a run's config."""

    name: str
    identity: dict[str, Any]
    """All that can change a grade: its rule's version, the model's content, prompt, sampling. In the plan's key."""
    open: Callable[[Context], GradeGroups]
    gpus: int = 0
    """How many it takes where there are any."""

    @property
    def version(self) -> int:
        """The identity as a number, so that kept grades of another model or prompt are not mixed in."""
        return int(digest(self.identity)[:7], 16)

    def grades(self, grade_groups: GradeGroups, window: Sequence[Wanted]) -> list[list[Grade]]:
        """What it says of a window; whatever it raises is the grade of all of it, and the run goes on."""
        try:
            judgements = grade_groups(window)
            if [len(js) for js in judgements] != [len(w.completions) for w in window]:
                raise ValueError(f"{self.name} did not answer for each completion")
        except CosmoError:
            raise
        except Exception as error:
            judgements = [[_raised(error)] * len(w.completions) for w in window]
        return [[as_grade(self.name, self.version, j) for j in js] for js in judgements]
