"""What runs on a Ray cluster: a worker with its stage open, and the mailbox for what workers tell.

Everything that travels is plain values; the stage, its config and its inputs are made anew from them.
"""

from __future__ import annotations

import importlib
import os
import pickle
import socket
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.rejected import RejectedRow
from stages.core.config import build
from stages.core.errors import CosmoError, UnavailableError, first_line
from stages.core.executors.shard_worker import ShardWorker
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Resources

_EVERY_S = 0.5
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Task:
    """A run as a process on another machine has to know it."""

    stage: str
    """The stage's class as `module:name`."""
    config: dict[str, Any]
    inputs: list[str]
    folder: str
    fingerprint: str
    cwd: str
    """Where the command was typed: relative paths start there."""
    rejected: list[dict[str, Any]]
    """What the plan left out, for whoever does shard 0."""
    environment: dict[str, str]
    """Settings of the command's process that a worker takes over where its own machine says nothing."""


@dataclass(slots=True)
class Outcome:
    """What came of a call."""

    done: bool = True
    """False: another process has the shard in hand."""
    error: Exception | None = None
    """What the stage raised."""


@dataclass(slots=True)
class Note:
    """What a worker tells of its shard."""

    worker: int
    shard: int = -1
    unit: str = ""
    count: int = 0
    numbers: dict[str, float | str] = field(default_factory=dict)
    message: str = ""


class Worker:
    """One process: a stage, opened at its first shard."""

    def __init__(self, task: Task, number: int, mailbox: Any) -> None:
        self._task, self._reporter = task, Reporter(number, mailbox)
        self._shards: ShardWorker | None = None

    def ready(self) -> Outcome:
        """See that this machine is fit for the run."""
        try:
            self._shards = self._prepared()
        except Exception as error:
            return Outcome(error=portable(error))
        return Outcome()

    def do(self, shard: int, wait: bool) -> Outcome:
        """A shard, to its commit."""
        assert self._shards is not None
        self._reporter.about(shard)
        try:
            return Outcome(self._shards.do(shard, wait))
        except Exception as error:
            return Outcome(error=portable(error))
        finally:
            # Before the driver hears of the shard's end: it takes the last notes then, and no later ones.
            self._reporter.flush(wait=True)

    def _prepared(self) -> ShardWorker:
        task = self._task
        for name, value in task.environment.items():
            # Before the stage's module is imported: most libraries read these once, at their import.
            os.environ.setdefault(name, value)
        folder = self._folder()
        module, _, name = task.stage.partition(":")
        stage = getattr(importlib.import_module(module), name)()
        config = build(stage.config, task.config, stage.name)
        inputs = [RunFolder.open(Path(p)) for p in task.inputs]
        ctx = Context(config, inputs, self._reporter, Resources())
        return ShardWorker(stage, ctx, folder, [RejectedRow(**row) for row in task.rejected])

    def _folder(self) -> RunFolder:
        """The run folder, the very same as the command sees."""
        task = self._task
        try:
            os.chdir(task.cwd)
            folder = RunFolder.open(Path(task.folder))
            if folder.fingerprint == task.fingerprint:
                return folder
        # No such folder here, or one that can't be read: either way this machine does not see the same files.
        except (OSError, CosmoError):
            pass
        raise UnavailableError(
            f"the Ray worker on {socket.gethostname()} does not see {Path(task.cwd) / task.folder}",
            "all machines need the same file system: choose a shared folder with --runs FOLDER",
        )


def portable(error: Exception) -> Exception:
    """The error in a shape that travels, its traceback as a note."""
    # Tracebacks don't pickle.
    error.add_note(traceback.format_exc())
    try:
        # Both ways: an exception whose class wants other arguments than it keeps fails only when it is unpickled, which
        # would be in the driver.
        travelled: Exception = pickle.loads(pickle.dumps(error))
        return travelled
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {first_line(error)}")


class Reporter:
    """A Progress that sends what it is told to a mailbox, now and then."""

    def __init__(self, number: int, mailbox: Any) -> None:
        self._number, self._mailbox = number, mailbox
        self._note, self._sent = Note(number), time.monotonic()

    def about(self, shard: int) -> None:
        """Which shard it is told of from here on."""
        self._note = Note(self._number, shard)

    def start(self, what: str, total: int | None, unit: str) -> None:
        """What is counted from here on."""
        self.flush()
        self._note.unit = unit
        # At once: the clock that a rate is reckoned by starts with the work.
        self._mailbox.put.remote(Note(self._number, self._note.shard, unit))

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        """Add to the count, and send it now and then."""
        self._note.count += n
        self._note.numbers.update(numbers)
        if time.monotonic() - self._sent >= _EVERY_S:
            self.flush()

    def log(self, message: str) -> None:
        """Send one line at once."""
        self.flush()
        self._mailbox.put.remote(Note(self._number, self._note.shard, message=message))

    def flush(self, wait: bool = False) -> None:
        """Send what is counted; with `wait`, see it delivered."""
        note, self._sent = self._note, time.monotonic()
        self._note = Note(self._number, note.shard, note.unit)
        sent = self._mailbox.put.remote(note) if note.count else None
        if wait and sent is not None:
            import ray

            # A count that is lost costs nothing but a look at it.
            ray.wait([sent], timeout=_PATIENCE_S)


class Mailbox:
    """Holds what workers tell until the command asks."""

    def __init__(self) -> None:
        self._notes: list[Note] = []

    def put(self, note: Note) -> None:
        """Keep a note until it is taken."""
        self._notes.append(note)

    def take(self) -> list[Note]:
        """All notes since the last time."""
        notes, self._notes = self._notes, []
        return notes
