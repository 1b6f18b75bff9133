"""Commits beside a command's next work: a run's files are written, synced and received while the next stage begins."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Behind:
    """One commit at a time, in a thread of its own. A process that ends by itself ends after it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "commit")
        self._work: Future[None] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin with a commit. The one before it has been waited for."""
        assert self._work is None, "wait() comes first"
        self._work = self._pool.submit(work)

    def wait(self) -> None:
        """Return when nothing is under way. Raises, once, what the commit raised."""
        work, self._work = self._work, None
        if work is not None:
            work.result()
