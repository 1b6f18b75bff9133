"""What a verifier is: one function from a completion to a judgement, with a version.

A verifier is one file `stages/score/verifiers/<name>.py`:

    \"""Quiet: 1 when the answer has no word in capitals.\"""

    from stages.score.verifiers.base import Judgement, Verifier, judged

    def judge(group, completion, parsed) -> Judgement:
        loud = any(word.isupper() for word in parsed.answer.split())
        return judged(0.0, "loud") if loud else judged(1.0, "quiet")

    PLUGIN = Verifier(version=1, judge=judge)

The file's name is the verifier's name. A formula names it as a term; the `also` list runs it beside the
formula.

A verifier that needs a model grades many completions at once. Its file's PLUGIN binds it to the config:

    def bind(config: ScoreConfig) -> ModelVerifier:
        ref = resolve_policy(config.something.policy)
        return ModelVerifier("quiet_model", {"rule": 1, "policy": ref.id}, lambda ctx: _Quiet(ctx, ref).grade_groups)

    PLUGIN = BoundVerifier(version=1, bind=bind)

`bind` runs while planning and loads nothing heavy. `open` runs once a run, before the first row that is graded, and
may load: costly things go through `ctx.resources`, so that they stay warm between stages. The function that it returns
is given a window of groups at a time, each with the completions that lack the grade, and answers with one Judgement
for each of them, in their order. A failure is a `failed(...)` judgement; what it raises becomes an error
grade of the whole window, but for a CosmoError, which ends the run.

Whatever a verifier is, its value is a finite number or its grade is an error: see `finite_value`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from schemas.identity import digest
from schemas.rollouts import Completion, RolloutGroup
from schemas.scored import ERROR, NOT_APPLICABLE, OK, TIMEOUT, UNDECIDED, Grade, GradeStatus, StepGrade
from stages.core.errors import CosmoError, first_line
from stages.core.plugins.outside import line_of_plugin
from stages.core.stage import Context
from stages.judging.parsed import THINK, ParsedCompletion
from stages.score.answers.algebra.math_pool import TimedOut

_SHOWN = 60
"""Longest part of a wrong value that a reason repeats."""


class Judgement(NamedTuple):
    """A verifier's opinion, before its name and version are put on it."""

    value: float | None
    verdict: str | None = None
    reason: str | None = None
    seen: str | None = None
    status: GradeStatus = OK
    steps: list[StepGrade] | None = None
    """Of a verifier that grades steps: what it says of each; see `stages.score.verifiers.by_steps`."""


def judged(value: float, verdict: str, reason: str | None = None, seen: str | None = None) -> Judgement:
    """The verifier has an opinion: a number, its class, why, and what was looked at."""
    return Judgement(value, verdict, reason, seen)


def does_not_apply(reason: str) -> Judgement:
    """The verifier has nothing to say about this row; never a zero."""
    return Judgement(None, None, reason, None, NOT_APPLICABLE)


def undecided(reason: str, seen: str | None = None) -> Judgement:
    """The rule can't tell from this text: no value, so no reward; counted, and a judge may be asked for just those."""
    return Judgement(None, None, reason, seen, UNDECIDED)


def failed(reason: str, status: GradeStatus = ERROR) -> Judgement:
    """There is no opinion, and why; `status` is error or timeout. A later run asks again."""
    return Judgement(None, None, " ".join(reason.split())[:200], None, status)


Judge = Callable[[RolloutGroup, Completion, ParsedCompletion], Judgement]


@dataclass(frozen=True)
class Verifier:
    """A judging function with its version. Raise the version whenever some grade could come out otherwise."""

    version: int
    judge: Judge
    name: str = ""
    """Left out: the last part of the judging function's module."""
    bind: Callable[[Any], Verifier] | None = None
    """Of a rule that has plugins of its own: the verifier under a ScoreConfig."""
    identity: dict[str, Any] | None = None
    """What else decides its grades than its own code: in the plan's key."""
    steps: Callable[..., Any] | None = None
    """Of one that grades steps: its rule (`stages.score.verifiers.by_steps`). It is given the completion with what an
    environment wrote, which it reads and does not grade."""

    def __post_init__(self) -> None:
        # The class is frozen, and its own `__setattr__` raises.
        object.__setattr__(self, "name", self.name or self.judge.__module__.rpartition(".")[2])

    def grade(self, group: RolloutGroup, completion: Completion, parsed: ParsedCompletion) -> Grade:
        """The judgement as a grade; a verifier that fails gives a grade that says so, and the run goes on."""
        try:
            j = self.judge(group, completion, parsed)
        except CosmoError:
            raise
        except Exception as error:
            j = raised(error)
        return as_grade(self.name, self.version, j)


def with_settings(verifier: Verifier, settings: Any) -> Verifier:
    """The rule with a table of settings as its judging function's last argument.

    At their defaults it has the version that it is written with; other settings are another version, so that kept
    grades of the one are not taken for the other's.
    """
    version = verifier.version
    if settings != type(settings)():
        version = int(digest([version, asdict(settings)])[:7], 16)
    # A verifier's own type says nothing of a last argument, which only those with settings have.
    judge: Any = verifier.judge
    return replace(verifier, version=version, judge=partial(judge, settings=settings), bind=None)


def raised(error: Exception) -> Judgement:
    """What a verifier raised: no opinion, why, and where in its author's own code where it comes from outside."""
    if isinstance(error, TimedOut):
        return failed(str(error), TIMEOUT)
    where = line_of_plugin(error)
    return failed(f"{type(error).__name__}: {error}" + (f" ({where})" if where else ""))


def finite_value(value: Any, name: str) -> float:
    """The value that the verifier `name` gave, as a float.

    An int, float or bool, or what holds exactly one of them: a NumPy scalar, a tensor or array without dimensions.
    ValueError names verifier and value for anything else: text, Decimal, a list, a tensor of several numbers, NaN, an
    infinity. None of them may reach a reward, where one NaN makes the advantages of its whole group meaningless.
    """
    number = value
    # NumPy scalars and tensors without dimensions are no int or float to isinstance (float64 is, by chance).
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):
        try:
            number = value.item()
        # A tensor on the meta device, or a stranger's `item`, may raise anything.
        except Exception as error:
            raise ValueError(f"{name} gave a {type(value).__name__} that can't be read: {first_line(error)}") from None
    if not isinstance(number, int | float):
        raise ValueError(f"{name} gave {_shown(value)}, a {type(value).__name__}: a grade is a number")
    try:
        # An int beyond the largest float.
        found = float(number)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"{name} gave {_shown(value)}: a grade is a finite number")
    return found


def _shown(value: Any) -> str:
    """The value in one short line; a stranger's object may fail at that, too."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        return "something unprintable"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 4] + " ..."


def as_grade(name: str, version: int, judgement: Any) -> Grade:
    """A judgement under its verifier's name and version; an error grade where it is none, or its value no number."""
    try:
        checked = _checked(name, judgement)
    except ValueError as error:
        checked = failed(str(error))
    return Grade(name=name, version=version, **checked._asdict())


def _checked(name: str, judgement: Any) -> Judgement:
    """The judgement with values that a row can hold; ValueError says why it can't be."""
    if not isinstance(judgement, Judgement):
        kind = type(judgement).__name__
        raise ValueError(f"{name} gave {_shown(judgement)}, a {kind}, and not a Judgement: return judged(value, ...)")
    try:
        status = GradeStatus(judgement.status)
    except ValueError:
        raise ValueError(
            f"{name} gave the status {_shown(judgement.status)}: known are {', '.join(GradeStatus)}"
        ) from None
    value = finite_value(judgement.value, name) if status == OK else None
    for field_name in ("verdict", "reason", "seen"):
        if not _storable(getattr(judgement, field_name)):
            given = getattr(judgement, field_name)
            raise ValueError(f"{name} gave the {field_name} {_shown(given)}, a {type(given).__name__}: it is a text")
    return judgement._replace(value=value, status=status)


def _storable(text: Any) -> bool:
    """Whether a text column of Parquet takes it: half a surrogate pair, as broken JSON has it, is no UTF-8."""
    if text is None:
        return True
    if not isinstance(text, str):
        return False
    try:
        # `isascii` looks at a flag of the string and is true of most; encoding copies the text.
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Ungraded(NamedTuple):
    """A group, and those of its completions that a model verifier is to grade: none of them failed to be sampled."""

    group: RolloutGroup
    completions: list[Completion]
    layout: str = THINK
    """How they are taken apart."""


GradeGroups = Callable[[Sequence[Ungraded]], list[list[Judgement]]]


@dataclass(frozen=True)
class ModelVerifier:
    """A verifier that needs a model, bound to a run's config."""

    name: str
    identity: dict[str, Any]
    """All that can change a grade: its rule's version, the model's content, prompt, sampling. In the plan's key."""
    open: Callable[[Context], GradeGroups]
    gpus: int = 0
    """How many it takes where there are any."""
    whole: bool = False
    """Whether completions are handed over with what an environment wrote."""

    @property
    def version(self) -> int:
        """The identity as a number, so that kept grades of another model or prompt are not mixed in."""
        # 28 bits: more than any version that is counted by hand, and it fits the column of 64.
        return int(digest(self.identity)[:7], 16)

    def grades(self, grade_groups: GradeGroups, window: Sequence[Ungraded]) -> list[list[Grade]]:
        """What it says of a window; whatever it raises is the grade of all of it, and the run goes on."""
        try:
            judgements = grade_groups(window)
            if [len(js) for js in judgements] != [len(w.completions) for w in window]:
                raise ValueError(f"{self.name} did not answer for each completion")
        except CosmoError:
            raise
        except Exception as error:
            judgements = [[raised(error)] * len(w.completions) for w in window]
        return [[as_grade(self.name, self.version, j) for j in js] for js in judgements]


@dataclass(frozen=True)
class BoundVerifier:
    """A verifier that only a run's config makes: the PLUGIN of a file whose verifier needs a model."""

    version: int
    bind: Callable[[Any], ModelVerifier]
    """From a ScoreConfig; runs while planning and loads nothing heavy."""

    def __call__(self, config: Any) -> ModelVerifier:
        """The verifier under this config; UsageError where the config lacks what it needs."""
        return self.bind(config)
