"""The ranks of this machine, which stay from one run of a command to the next: files tell them what to do.

torch's elastic agent starts them, and ends all of them when one fails. It waits in a thread, so that the command goes
on between runs. What they are told lies in a folder that only this user can read: `job-0.json` and so on, `done-0` when
all of them are done with it, `stop` when the command was asked to end, `end` when there is no more work.

A policy may be handed over before its run has a receipt: `handed-0.json` says where it is, `read-0` that it was read,
and `committed-0` that rank 0 is done with the run. Others sample meanwhile: a rank that waited in a collective would
keep a GPU busy with it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stages.core.atomic import write_json
from stages.core.errors import CosmoError, UnavailableError, first_line
from stages.core.resources import Kind, Resources
from stages.models.policy_ref import PolicyRef
from stages.models.warm import HAND_OVER, HandOver
from stages.train.config import TrainConfig
from stages.train.launching.launch import LAUNCHER, end_with_launcher, has_launcher, settings
from stages.train.launching.stop import FILE, STOP, StoppedError, hear_launcher
from stages.train.parallel import ranks

_LOOK_S = 0.02
_COMMITTED: Kind[Path] = Kind("committed")
"""The file by which rank 0 says that it is done with a run whose policy it may have handed over."""
_SECONDS_TO_END = 10.0
"""How long ranks that are told to end may take, before they are killed: what one has lost the others wait for."""


class Ranks:
    """`python COMMAND FOLDER LAUNCHER` as the ranks of this machine; they wait in `jobs`. Closed by name."""

    def __init__(self, config: TrainConfig, command: list[str], run: str) -> None:
        """Start them. Machines that meet at one address must be about the same `run`: another's are turned away."""
        self._config = config
        self._folder = Path(tempfile.mkdtemp(prefix="cosmo-"))
        self._number = -1
        self._working = False
        self._error: BaseException | None = None
        # Not the thread's own: a signal that raises within `join` would have it taken for ended.
        self._ended = threading.Event()
        # The command torchrun sets 1; this way in sets nothing, and each rank would take all cores.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // config.nproc)))
        # How long the others may go on once one has failed: they wait for it in vain.
        os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(int(_SECONDS_TO_END)))
        how = settings(config, str(self._folder), run)
        arguments = [*command, str(self._folder), str(os.getpid())]
        # It lives as long as they do: the system ends them with the thread that started them.
        threading.Thread(target=self._launch, args=(how, arguments), daemon=True, name="ranks").start()

    def do(self, job: dict[str, Any]) -> PolicyRef | None:
        """Have them do a job, which `jobs` gives to each of them, to its end, or until its policy is handed over.

        The policy, of which `read` and `finish` are to be called then. SystemExit with the code of a rank that failed,
        which has said why. SIGTERM is passed on as a file, so that no rank is killed within a step, and noted in
        `STOP`; a second one is StoppedError at once, for ranks that hang.
        """
        self._number += 1
        self._working, STOP.signalled = True, False
        handed = self._path("handed", ".json")
        write_json(self._path("job", ".json"), job)
        if self._wait_for(self._path("done"), handed) != handed:
            self._working = False
            return None
        found = json.loads(handed.read_text(encoding="utf-8"))
        return PolicyRef(found["spec"], found["id"], Path(found["folder"]), None, found["name"])

    def read(self) -> None:
        """The policy that was handed over has been read."""
        self._path("read").touch()

    def finish(self) -> None:
        """Return when the job in hand is done, if there is one; raises as `do` does."""
        if self._working:
            self.read()
            self._wait_for(self._path("done"))
            self._working = False

    def _path(self, name: str, suffix: str = "") -> Path:
        return self._folder / f"{name}-{self._number}{suffix}"

    def _wait_for(self, *paths: Path) -> Path:
        """The first of these that is there. Raises where the ranks end before."""
        with self._sigterm_as_file():
            while not (ended := self._ended.wait(_LOOK_S)) and not any(p.exists() for p in paths):
                pass
        if (found := next((p for p in paths if p.exists()), None)) is not None:
            return found
        assert ended
        raise _explained(self._error, self._config, stopped=(self._folder / "stop").exists())

    def close(self) -> None:
        """End them: at once where they wait, and within seconds where they work; nothing of them is left."""
        (self._folder / "end").touch()
        if self._working:
            self._signal(signal.SIGTERM)
        if not self._ended.wait(_SECONDS_TO_END):
            self._signal(signal.SIGKILL)
            self._ended.wait(_SECONDS_TO_END)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _launch(self, how: Any, command: list[str]) -> None:
        from torch.distributed.launcher.api import elastic_launch

        # It tells of its work, that a thread hears no signals, and of failures with everybody's traceback.
        logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
        try:
            elastic_launch(how, sys.executable)(*command)
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()

    def _signal(self, number: signal.Signals) -> None:
        for path in self._folder.glob("*.pid"):
            with suppress(OSError, ValueError):
                os.kill(int(path.read_text()), number)

    @contextmanager
    def _sigterm_as_file(self) -> Iterator[None]:
        """While the ranks work, SIGTERM to this process is a file that they look for after a step; a second one ends.

        A rank may hang in a step that never ends: of a collective, a lost disk, a dead link.
        """
        stop = self._folder / "stop"

        def heard(number: int, frame: object) -> None:
            if stop.exists():
                raise StoppedError(
                    "stopped by a second SIGTERM, within a step", "the same command goes on from the last checkpoint"
                )
            # Whoever goes on after this run is to know, too.
            STOP.signalled = True
            stop.touch()

        before = signal.signal(signal.SIGTERM, heard)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def _explained(error: BaseException | None, config: TrainConfig, stopped: bool) -> BaseException:
    """Why the ranks have ended before their job was done."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    if isinstance(error, ChildFailedError):
        rank, failure = error.get_first_failure()
        # Below 0 it is the signal that ended the process.
        if failure.exitcode > 0:
            return SystemExit(failure.exitcode)
        if stopped:
            return StoppedError("stopped before the first step", "the same command starts it")
        return CosmoError(
            f"rank {rank} was killed by {signal.Signals(-failure.exitcode).name}",
            "out of memory? lower micro_batch_tokens or micro_batch_size, or --parallel zero3; "
            "the same command goes on from the last checkpoint",
        )
    if isinstance(error, RendezvousError):
        return UnavailableError(
            f"--rdzv {config.rdzv}: {config.nnodes} machines did not find each other there: {first_line(error)}",
            "the same command on each, and a port of one of them that all can reach",
        )
    return error or CosmoError("the ranks ended before their work was done", "the same command goes on")


def jobs(folder: Path, launcher: int, resources: Resources) -> Iterator[dict[str, Any]]:
    """For a rank: one job after the other, until there is no more. A job is done when the next one is asked for.

    How it hands its policy over is in `resources`, where the job says that it may.
    """
    begin(folder, launcher)
    local = os.environ["LOCAL_RANK"]
    (folder / f"{local}.pid").write_text(str(os.getpid()))
    number = 0
    while _wait_for(folder, folder / f"job-{number}.json"):
        # Until it trains it ends at once, however long it loads or waits.
        hear_launcher()
        job: dict[str, Any] = json.loads((folder / f"job-{number}.json").read_text(encoding="utf-8"))
        for kind in (HAND_OVER, _COMMITTED):
            resources.drop(kind)
        if job["hand_over"]:
            resources.put(HAND_OVER, "", _hand_over(folder, number))
            resources.put(_COMMITTED, "", folder / f"committed-{number}")
        yield job
        # Nothing is lost by ending here, whoever asks for it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ranks.barrier()
        if local == "0":
            (folder / f"done-{number}").touch()
        number += 1


def _hand_over(folder: Path, number: int) -> HandOver:
    def offer(ref: PolicyRef) -> None:
        found = {"spec": ref.spec, "id": ref.id, "folder": str(ref.folder.absolute()), "name": ref.name}
        write_json(folder / f"handed-{number}.json", found)

    def until_read() -> None:
        _wait_for(folder, folder / f"read-{number}")

    return HandOver(offer, until_read)


def say_committed(resources: Resources) -> None:
    """For rank 0, before it talks to the others again: it is done with the run, well or not."""
    if (path := resources.peek(_COMMITTED, "")) is not None:
        path.touch()


def until_committed(resources: Resources) -> None:
    """For the others, where a policy may have been handed over: return when rank 0 has said so."""
    if (path := resources.peek(_COMMITTED, "")) is not None:
        _wait_for(path.parent, path)


def begin(folder: Path, launcher: int) -> None:
    """What a launched rank does first: it is to end when its launcher is killed, and to know where wishes lie."""
    os.environ |= {FILE: str(folder / "stop"), LAUNCHER: str(launcher)}
    end_with_launcher()


def _wait_for(folder: Path, path: Path) -> bool:
    """Whether it comes: else the command has ended, and there is nothing to wait for."""
    while not path.exists():
        # Its folder is gone where the command ended before this rank began.
        if (folder / "end").exists() or not folder.exists() or not has_launcher():
            return False
        time.sleep(_LOOK_S)
    return True
