"""All that the command line knows of a training run in several processes (ranks): starting them, being one of them.

The stage's entry in `stages/core/stage_list.py` names this module; a stage that can work in several processes has one
with these functions. Nothing here imports torch before it is needed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.core.resources import Kind, Resources
from stages.models.warm import READ, TRAINED
from stages.train.config import TrainConfig
from stages.train.launching import staying
from stages.train.launching.launch import LAUNCHER, needs_launch
from stages.train.launching.staying import Ranks
from stages.train.launching.stop import STOP, StoppedError
from stages.train.parallel import ranks

# Whoever launched the ranks ends all of them once one has failed, so a rank that waits this long before it reports
# speaks only where no other has: 3 s for an error of its own that rank 0 will have as well, 15 s for what another
# rank's death looks like from here. Our own launcher ends those of its machine, however slow that is.
SECONDS_FOR_FIRST_RANK, SECONDS_FOR_FAILED_RANK, SECONDS_FOR_OUR_LAUNCHER = 3.0, 15.0, 600.0
RANKS: Kind[Ranks] = Kind("ranks")
"""The ranks of this machine, by what they have in common. Between their jobs they hold no accelerator's memory."""


def wants_processes(config: TrainConfig) -> bool:
    """True where a run asks for several processes and this one is none of them."""
    return needs_launch(config)


def is_one() -> bool:
    """True in a process that this module, torchrun, accelerate or srun started as one of several."""
    return ranks.launched()


def is_first() -> bool:
    """True for rank 0, which alone writes the run folder and talks; for a single process, too."""
    return ranks.first()


def do(config: TrainConfig, command: list[str], run: str, job: dict[str, Any], resources: Resources) -> None:
    """Have the ranks of this machine do a job, to its end; SystemExit with the code of one that failed.

    Each is a `python COMMAND FOLDER LAUNCHER`, which takes its jobs from `jobs(FOLDER, LAUNCHER)`. They stay in
    `resources` for the next job of the same kind. `run` is the same on all machines that work on the same run, and on
    no others. Where the job says that its policy may be handed over, it may be in hand still: `finish`.
    """
    # What a process that has joined others and trained with them in one layout can do again.
    key = f"{config.nproc} of {config.nnodes} at {config.rdzv}, {config.parallel} on {config.device}"
    if (there := resources.peek(RANKS, key)) is None:
        # They hold memory, and an address perhaps.
        let_go(resources)
        there = resources.get(RANKS, key, lambda: Ranks(config, command, run))
    with _ended_by_errors(resources):
        if (ref := there.do(job)) is not None:
            resources.put(TRAINED, ref.spec, ref)
            resources.put(READ, "", there.read)


def finish(resources: Resources) -> None:
    """Return when the ranks that stay in these resources are done with what they have in hand; raises as `do` does."""
    there = resources.kept(RANKS)
    if there is not None:
        with _ended_by_errors(resources):
            there.finish()


@contextmanager
def _ended_by_errors(resources: Resources) -> Iterator[None]:
    try:
        yield
    except BaseException:
        let_go(resources)
        raise


def jobs(folder: Path, launcher: int, resources: Resources) -> Iterator[dict[str, Any]]:
    """For a launched rank: one job after the other, until there is no more. One is done when the next is asked for."""
    return staying.jobs(folder, launcher, resources)


def let_go(resources: Resources) -> None:
    """End the ranks that stay in these resources."""
    resources.drop(RANKS)


def asked_to_stop() -> bool:
    """Whether SIGTERM came while the last run was trained: that one is whole, and no more is to be begun."""
    return STOP.signalled


def forget_signals() -> None:
    """What came before is nothing to what begins now."""
    STOP.signalled = False


def stopped(what: str) -> StoppedError:
    """The error of a command that was asked to stop and ends after this."""
    return StoppedError(f"stopped after {what}, which is kept", "the same command goes on from there")


def join(config: TrainConfig) -> None:
    """Find the other ranks; returns when all are there, and at once where they have met before."""
    # Read when torch is loaded: DDP warns of a model that might have unused parts and has none.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from stages.train.trainer_isolation import quiet_imports

    quiet_imports()
    ranks.join(config.device)


def work(
    config: TrainConfig,
    run: Callable[[], None],
    exit_code: Callable[[BaseException], int],
    resources: Resources | None = None,
) -> None:
    """Be one of the ranks. Rank 0 calls `run`; the others train with it. SystemExit where rank 0 failed.

    `exit_code` is what the process ends with after an exception: the other ranks end with the same. What these keep
    warm is in `resources`.
    """
    from stages.train.launching.followers import LEADER, work_until_dismissed

    resources = resources or Resources()
    if ranks.first():
        code = 0
        try:
            run()
        except BaseException as error:
            code = exit_code(error)
            raise
        finally:
            staying.say_committed(resources)
            LEADER.dismiss(code)
        return
    from stages.train.stage import train

    if code := work_until_dismissed(train, resources):
        raise SystemExit(code)


def rest(resources: Resources) -> None:
    """Between two jobs: give back an accelerator's memory, which samplers are about to need."""
    from stages.train.parallel import kept

    kept.rest(resources)


def should_report(error: BaseException) -> bool:
    """Whether this process is to say what went wrong, asked once; it may wait, so that only one rank does."""
    if not ranks.launched():
        return True
    if isinstance(error, StoppedError):
        # After Ctrl-C it is the launcher that says so.
        return ranks.first() and not STOP.by_launcher
    lost_another = ranks.is_peer_failure(error)
    if lost_another and threading.current_thread() is threading.main_thread():
        # There is no step in hand any more: whoever asks this process to end is to get it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if isinstance(error, KeyboardInterrupt) or (lost_another and STOP.signalled):
        return False
    if lost_another:
        time.sleep(SECONDS_FOR_OUR_LAUNCHER if _all_are_our_launchers() else SECONDS_FOR_FAILED_RANK)
    elif not ranks.first():
        time.sleep(SECONDS_FOR_FIRST_RANK)
    return True


def _all_are_our_launchers() -> bool:
    return LAUNCHER in os.environ and os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]
