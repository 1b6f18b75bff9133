"""SIGTERM while training: the step in hand is finished, a checkpoint is written, and the same command goes on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.core.errors import CosmoError

TERMINATED = 128 + signal.SIGTERM
FILE = "COSMO_STOP"
"""The environment variable that names the file by which a launcher passes the wish on to its ranks."""


class StoppedError(CosmoError):
    """A run that was asked to end and can go on. Exit 143."""

    code = TERMINATED


class Stop:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self.signalled = False

    @property
    def asked(self) -> bool:
        """By a signal of its own, or by its launcher."""
        return self.signalled or (FILE in os.environ and Path(os.environ[FILE]).exists())

    @property
    def by_launcher(self) -> bool:
        """The launcher ends its ranks for a reason of its own: it was not asked to stop."""
        return FILE in os.environ and not Path(os.environ[FILE]).exists()


STOP = Stop()


@contextmanager
def listening() -> Iterator[None]:
    """Note SIGTERM instead of dying of it. Signals belong to the main thread: elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: object) -> None:
        # No more than that: an exception here could leave the other ranks in a collective, or a step half taken.
        STOP.signalled = True

    before = signal.signal(signal.SIGTERM, note)
    STOP.signalled = False
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
