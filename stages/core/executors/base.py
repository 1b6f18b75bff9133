"""What decides where the missing shards of a run are done. Stages know nothing of it, nor does a fingerprint."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from stages.core.runs.behind import Behind
    from stages.core.runs.folder import RunFolder
    from stages.core.stage import Context, Plan, Stage

LOCAL = "local"
"""The executor that is used when none is named."""


@dataclass(frozen=True, slots=True)
class Job:
    """The shards of one run that are to be done now."""

    stage: Stage
    ctx: Context
    folder: RunFolder
    """The run folder, its manifest written: the plan's shards are in there."""
    plan: Plan
    shards: list[int]
    """Indices of what is missing, in order."""
    behind: Behind | None = None
    """Where this process may leave its commits to, as long as the command goes on."""


class ExecutorPlugin(Protocol):
    """An executor file's PLUGIN."""

    config: type[Any]
    """A dataclass of its settings, declared by `option`: `--set executor.NAME=VALUE`."""

    def do(self, job: Job, settings: Any) -> None:
        """Do the shards; the receipts say what came of it.

        Returns when each is committed, here or by whoever else was at it, or is left to `job.behind`. Raises what a
        stage raises, at once.
        """

    def workers(self, settings: Any, gpus: Callable[[], float]) -> int:
        """How many shards may be in hand at once; 1 where it is unknown. `gpus` says how many a worker takes.

        Asked before a plan is made.
        """

    def shared(self, settings: Any) -> AbstractContextManager[None]:
        """Around several jobs of one command: what they can share is made once."""
