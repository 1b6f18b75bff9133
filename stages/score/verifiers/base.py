"""What a verifier is: one function from a reply to a judgement, with a version.

A verifier is one file `stages/score/verifiers/<name>.py`:

    \"""Quiet: 1 when the answer has no word in capitals.\"""

    from stages.score.verifiers.base import Judgement, Verifier, judged

    def judge(group, completion, reply) -> Judgement:
        loud = any(word.isupper() for word in reply.answer.split())
        return judged(0.0, "loud") if loud else judged(1.0, "quiet")

    PLUGIN = Verifier(version=1, judge=judge)

The file's name is the verifier's name. A recipe names it as a term; the `also` list runs it beside the
recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.rollouts import Completion, RolloutGroup
from schemas.scored import ERROR, NOT_APPLICABLE, OK, TIMEOUT, Grade
from stages.core.errors import CosmoError
from stages.score.killable import TimedOut
from stages.score.reply import Reply


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


Judge = Callable[[RolloutGroup, Completion, Reply], Judgement]


@dataclass(frozen=True)
class Verifier:
    """A judging function with its version. Raise the version whenever some grade could come out otherwise."""

    version: int
    judge: Judge
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.judge.__module__.rpartition(".")[2])

    def grade(self, group: RolloutGroup, completion: Completion, reply: Reply) -> Grade:
        """The judgement as a grade; a verifier that fails gives a grade that says so, and the run goes on."""
        try:
            j = self.judge(group, completion, reply)
        except CosmoError:
            raise
        except TimedOut as error:
            j = Judgement(None, None, str(error), None, TIMEOUT)
        except Exception as error:
            line = " ".join(str(error).split())[:200]
            j = Judgement(None, None, f"{type(error).__name__}: {line}", None, ERROR)
        return Grade(
            name=self.name,
            version=self.version,
            value=j.value,
            status=j.status,
            verdict=j.verdict,
            reason=j.reason,
            seen=j.seen,
        )
