"""Starting the ranks of this machine: torch's elastic agent, which ends all of them when one fails."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.errors import CosmoError, UnavailableError, UsageError, first_line
from stages.core.registry import load
from stages.train.config import TrainConfig
from stages.train.parallel.ranks import launched
from stages.train.parallel.stop import FILE, StoppedError

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

# As linux/prctl.h has it.
_PR_SET_PDEATHSIG = 1


LAUNCHER = "COSMO_LAUNCHER"
"""The environment variable with the process id of the launcher, which its ranks end with."""


def needs_launch(config: TrainConfig) -> bool:
    """True where a run asks for several ranks and this process is none of them."""
    return _several(config) and not launched()


def _several(config: TrainConfig) -> bool:
    return config.nproc > 1 or config.nnodes > 1 or config.parallel != "ddp"


def check(config: TrainConfig) -> None:
    """UsageError for a run that several processes can't do."""
    objective = load("objective", config.objective)
    if _several(config) and not objective.several_ranks:
        raise UsageError(f"{objective.called} trains in one process", "leave --nproc, --nnodes and --parallel out")
    if config.nnodes > 1 and not config.rdzv:
        raise UsageError("--nnodes > 1 needs --rdzv HOST:PORT", "one of the machines: --rdzv node0:29500")
    host, _, port = config.rdzv.rpartition(":")
    if config.rdzv and not (host and port.isdigit()):
        raise UsageError(f"--rdzv {config.rdzv!r} is not HOST:PORT", "for example --rdzv node0:29500")


def launch(config: TrainConfig, command: list[str], run: str) -> None:
    """Run `python COMMAND` as the ranks of this machine, to their end. SystemExit with the code of the one that failed.

    Machines that meet at one address must be about the same `run`: another's are turned away from it.
    The failing rank has said why. SIGTERM is passed on as a file, so that no rank is killed within a step.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import elastic_launch

    os.environ[LAUNCHER] = str(os.getpid())
    # The agent tells of its work, and of failures with everybody's traceback.
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    # The command torchrun sets 1; this way in sets nothing, and each rank would take all cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // config.nproc)))
    # How long the others may go on once one has failed: they wait for it in vain.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "10")
    with tempfile.TemporaryDirectory(prefix="cosmo-") as folder, _sigterm_as_file(Path(folder) / "stop") as stop:
        try:
            elastic_launch(settings(config, folder, run), sys.executable)(*command)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            # Below 0 it is the signal that ended the process.
            if failure.exitcode > 0:
                raise SystemExit(failure.exitcode) from None
            if stop.exists():
                raise StoppedError("stopped before the first step", "the same command starts it") from None
            raise CosmoError(
                f"rank {rank} was killed by {signal.Signals(-failure.exitcode).name}",
                "out of memory? lower micro_batch_tokens or micro_batch_size, or --parallel zero3; "
                "the same command goes on from the last checkpoint",
            ) from None
        except RendezvousError as error:
            raise UnavailableError(
                f"--rdzv {config.rdzv}: {config.nnodes} machines did not find each other there: {first_line(error)}",
                "the same command on each, and a port of one of them that all can reach",
            ) from None


def settings(config: TrainConfig, folder: str, run: str) -> LaunchConfig:
    """How torch starts the ranks; its logs go to `folder`."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    here = not config.rdzv
    return LaunchConfig(
        min_nodes=config.nnodes,
        max_nodes=config.nnodes,
        nproc_per_node=config.nproc,
        # Whoever comes to an address with another id meets nobody there.
        run_id=uuid.uuid4().hex if here else f"cosmo-{run}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0" if here else config.rdzv,
        local_addr="localhost" if here else None,
        # A restart would begin again with the same error; the same command goes on from the last checkpoint.
        max_restarts=0,
        # SIGTERM is ours, and SIGINT reaches everybody by itself.
        signals_to_handle="SIGHUP",
        # Without a folder it makes one in /tmp, which nobody removes.
        logs_specs=DefaultLogsSpecs(log_dir=folder),
    )


def end_with_launcher() -> None:
    """For a rank: be ended, too, where the launcher is killed and can end nobody (SIGKILL, out of memory).

    The system does it on Linux, at once; ranks that train on alone would hold their GPUs and meet the next run's.
    """
    if LAUNCHER not in os.environ or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have gone before it was asked for: then its children have another parent by now.
    if os.getppid() != int(os.environ[LAUNCHER]):
        os._exit(128 + signal.SIGKILL)


@contextmanager
def _sigterm_as_file(stop: Path) -> Iterator[Path]:
    """While the ranks run, SIGTERM to this process is a file that they look for after a step; a second one ends them.

    A rank may hang in a step that never ends: of a collective, a lost disk, a dead link.
    """

    def heard(number: int, frame: object) -> None:
        if stop.exists():
            # torch's agent ends the ranks on its way out.
            raise StoppedError(
                "stopped by a second SIGTERM, within a step", "the same command goes on from the last checkpoint"
            )
        stop.touch()

    os.environ[FILE] = str(stop)
    before = signal.signal(signal.SIGTERM, heard)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
        del os.environ[FILE]
