"""Whether and how the ranks of this machine are started: the settings of torch's elastic agent, and their launcher."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import uuid
from typing import TYPE_CHECKING

from stages.core.errors import UsageError
from stages.core.registry import load
from stages.train.config import TrainConfig
from stages.train.parallel.ranks import launched

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
    # It may have gone before it was asked for.
    if not has_launcher():
        os._exit(128 + signal.SIGKILL)


def has_launcher() -> bool:
    """Whether the process that started this rank is there: else it has another parent by now."""
    return os.getppid() == int(os.environ[LAUNCHER])
