"""All that the command line knows of a training run in several processes (ranks): starting them, being one of them.

The stage's entry in `stages/core/stage_list.py` names this module; a stage that can work in several processes has one
with these functions. Nothing here imports torch before it is needed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

from stages.train.config import TrainConfig
from stages.train.parallel import ranks
from stages.train.parallel.launch import LAUNCHER, end_with_launcher, launch, needs_launch
from stages.train.parallel.stop import hear_launcher

# Whoever launched the ranks ends all of them once one has failed, so a rank that waits this long before it reports
# speaks only where no other has: 3 s for an error of its own that rank 0 will have as well, 15 s for what another
# rank's death looks like from here. Our own launcher ends those of its machine, however slow that is.
SECONDS_FOR_FIRST_RANK, SECONDS_FOR_FAILED_RANK, SECONDS_FOR_OUR_LAUNCHER = 3.0, 15.0, 600.0


def wants_processes(config: TrainConfig) -> bool:
    """True where a run asks for several processes and this one is none of them."""
    return needs_launch(config)


def is_one() -> bool:
    """True in a process that this module, torchrun, accelerate or srun started as one of several."""
    return ranks.launched()


def is_first() -> bool:
    """True for rank 0, which alone writes the run folder and talks; for a single process, too."""
    return ranks.first()


def start(config: TrainConfig, command: list[str], run: str) -> None:
    """Run `python COMMAND` as the ranks of this machine, to their end; SystemExit with the code of one that failed.

    `run` is the same on all machines that work on the same run, and on no others.
    """
    launch(config, command, run)


def begin() -> None:
    """What a launched rank does first: it is to end when its launcher is killed or asked to stop."""
    end_with_launcher()
    hear_launcher()


def join(config: TrainConfig) -> None:
    """Find the other ranks; returns when all are there."""
    # Read when torch is loaded: DDP warns of a model that might have unused parts and has none.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from stages.train.trainer_isolation import quiet_imports

    quiet_imports()
    ranks.join(config.device)


def work(config: TrainConfig, run: Callable[[], None], exit_code: Callable[[BaseException], int]) -> None:
    """Be one of the ranks. Rank 0 calls `run`; the others train with it. SystemExit where rank 0 failed.

    `exit_code` is what the process ends with after an exception: the other ranks end with the same.
    """
    from stages.train.parallel.followers import LEADER, work_until_dismissed

    if ranks.first():
        try:
            run()
        except BaseException as error:
            LEADER.dismiss(exit_code(error))
            raise
        LEADER.dismiss(0)
        return
    from stages.train.stage import train

    if code := work_until_dismissed(train):
        raise SystemExit(code)


def should_report(error: BaseException) -> bool:
    """Whether this process is to say what went wrong, asked once; it may wait, so that only one rank does."""
    if not ranks.launched():
        return True
    from stages.train.parallel.stop import STOP, StoppedError

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
