"""Starting the ranks of this machine: torch's elastic agent, which ends all of them when one fails."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.core.errors import CosmoError, UsageError
from stages.train.config import REWARD, TrainConfig
from stages.train.parallel.ranks import launched
from stages.train.parallel.stop import FILE, StoppedError


def wanted(config: TrainConfig) -> bool:
    """True where a run wants ranks and this process is none yet."""
    return _several(config) and not launched()


def _several(config: TrainConfig) -> bool:
    return config.nproc > 1 or config.nnodes > 1 or config.parallel != "ddp"


def check(config: TrainConfig) -> None:
    """UsageError for a run that several processes can't do."""
    if _several(config) and config.objective == REWARD:
        raise UsageError("a reward model trains in one process", "leave --nproc, --nnodes and --parallel out")
    if config.nnodes > 1 and not config.rdzv:
        raise UsageError(f"{config.nnodes} machines have no place to meet", "--rdzv HOST:29500, one of their names")


def launch(config: TrainConfig, command: list[str]) -> None:
    """Run `python COMMAND` as the ranks of this machine, to their end. SystemExit with the code of the one that failed.

    The failing rank has said why. SIGTERM is passed on as a file, so that no rank is killed within a step.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # The agent tells of its work, and of failures with everybody's traceback.
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    one_machine = config.nnodes == 1 and not config.rdzv
    settings = LaunchConfig(
        min_nodes=config.nnodes,
        max_nodes=config.nnodes,
        nproc_per_node=config.nproc,
        run_id=uuid.uuid4().hex if one_machine else "cosmo",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0" if one_machine else config.rdzv,
        local_addr="localhost" if one_machine else None,
        max_restarts=0,
        signals_to_handle="SIGHUP",
    )
    threads = max(1, (os.cpu_count() or 1) // config.nproc)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    with tempfile.TemporaryDirectory(prefix="cosmo-") as folder, _passed_on(Path(folder) / "stop") as stop:
        try:
            elastic_launch(settings, sys.executable)(*command)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if failure.exitcode > 0:
                raise SystemExit(failure.exitcode) from None
            if stop.exists():
                raise StoppedError("stopped before the first step", "the same command starts it") from None
            raise CosmoError(
                f"rank {rank} was killed by {signal.Signals(-failure.exitcode).name}",
                "out of memory? lower micro_batch_tokens or micro_batch_size, or --parallel zero3; "
                "the same command goes on from the last checkpoint",
            ) from None


@contextmanager
def _passed_on(stop: Path) -> Iterator[Path]:
    """While the ranks run, SIGTERM to this process is a file that they look for after every step."""
    os.environ[FILE] = str(stop)
    before = signal.signal(signal.SIGTERM, lambda *_: stop.touch())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
        del os.environ[FILE]
