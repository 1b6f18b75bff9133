"""A Ray cluster: workers on many machines, each with its model warm; a dead one's shard goes to another.

The cluster is the one that `executor.address` or RAY_ADDRESS names; with neither, one is started on this machine for as
long as the command runs. All machines have to see the same files, and to have cosmo installed.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from typing import Any

from stages.core.errors import UnavailableError, first_line
from stages.core.executors.base import Job
from stages.core.executors.ray.config import RayConfig

# What travels through Ray's own store is small: rows go through the file system.
_STORE_BYTES = 128 << 20


class RayExecutor:
    """Starts or finds the cluster and hands the shards out."""

    config = RayConfig

    def do(self, job: Job, settings: RayConfig) -> None:
        """Hand the shards out to workers until each is committed; UnavailableError without a cluster or room in it."""
        # A paragraph of Ray's about each lost worker comes by print; the run says it in one line.
        with self.shared(settings), open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), sigterm() as asked:
            from stages.core.executors.ray.driver import Driver

            Driver(job, settings, asked).run()

    def workers(self, settings: RayConfig, gpus: Callable[[], float]) -> int:
        """As many as were asked for, or as a cluster that is connected already has room for."""
        ray = sys.modules.get("ray")
        if settings.workers or ray is None or not ray.is_initialized():
            return settings.workers or 1
        from stages.core.executors.ray.driver import room

        return room(settings, gpus())

    def shared(self, settings: RayConfig) -> AbstractContextManager[None]:
        """Around several jobs: the cluster of the first one stays."""
        return cluster(settings.address or os.environ.get("RAY_ADDRESS", ""))


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """Connected to a cluster: an own one, gone afterwards, where no address is given."""
    if importlib.util.find_spec("ray") is None:
        raise UnavailableError("executor ray: Ray is not installed", "pip install 'cosmo-rl[ray]'")
    # Off unless asked for: Ray would tell its makers about each start.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    # Workers' output is in Ray's own logs; what a person has to know comes back as progress or as an error.
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "local", **quiet, **({} if address else own))
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = f"reach the Ray cluster at {address!r}" if address else "start a Ray cluster on this machine"
        raise UnavailableError(
            f"can't {where}: {first_line(error)}",
            "look at it with: ray status; where it wants a token: export RAY_AUTH_MODE=token",
        ) from None
    # Ray has put one of its own in place, and does so again.
    _on_sigterm(before)
    try:
        yield
    finally:
        ray.shutdown()
        _on_sigterm(before)


@contextmanager
def sigterm() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has come. Raising within a call of Ray's can end the process with no word and code 1."""
    came: list[int] = []
    before = signal.getsignal(signal.SIGTERM)
    _on_sigterm(lambda number, frame: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        _on_sigterm(before)


def _on_sigterm(handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


PLUGIN = RayExecutor()
