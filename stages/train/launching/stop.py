"""SIGTERM while training: the step in hand is finished, a checkpoint is written, and the same command goes on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.core.errors import CosmoError

TERMINATED = 128 + signal.SIGTERM
FILE = "COSMO_STOP"
"""The environment variable that names the file by which a launcher passes the wish on to its ranks."""
_LOOK_S = 0.2


class StoppedError(CosmoError):
    """A run that was asked to end and can go on. Exit 143."""

    code = TERMINATED


class Stop:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self.signalled = False
        self.at_once = False
        """No step is in hand, so that nothing is lost by ending here: while waiting for a lock, and while loading."""

    @property
    def asked(self) -> bool:
        """By a signal of its own, or by its launcher."""
        return self.signalled or (FILE in os.environ and Path(os.environ[FILE]).exists())

    @property
    def by_launcher(self) -> bool:
        """The launcher ends its ranks for a reason of its own: it was not asked to stop."""
        return FILE in os.environ and not Path(os.environ[FILE]).exists()

    def check_signal(self) -> None:
        """StoppedError where a signal came before the first step."""
        if self.signalled and self.at_once:
            raise StoppedError("stopped before the first step", "the same command goes on from there") from None


STOP = Stop()


def hear_launcher() -> None:
    """For a rank, until it trains: end at once when the launcher is asked to stop.

    Its wish is a file, which a process that waits for another's lock, or for a model, would not look for.
    """
    if FILE not in os.environ:
        return
    STOP.at_once = True
    signal.signal(signal.SIGTERM, _note)

    def watch() -> None:
        while STOP.at_once:
            if STOP.asked:
                # To the main thread, which it takes out of a wait for a lock.
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(_LOOK_S)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def listening() -> Iterator[None]:
    """End by SIGTERM in good order: at once while a run is opened, and from `STOP.at_once = False` on after a step.

    Signals belong to the main thread: elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _note)
    STOP.signalled, STOP.at_once = False, True
    try:
        yield
    finally:
        STOP.at_once = False
        signal.signal(signal.SIGTERM, before)


def _note(number: int, frame: object) -> None:
    """SIGTERM: StoppedError before the first step, else a note."""
    STOP.signalled = True
    STOP.check_signal()
    # No more than that: an exception here could leave the other ranks in a collective, or a step half taken.
