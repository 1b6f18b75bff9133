"""The processes of one training run (ranks): how they find each other, and the collective operations they need.

With one process everything here is a no-op. Nothing imports torch before it is needed.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from stages.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

# Rank 0 may write a large checkpoint while the others wait; a rank that dies ends the others at once anyway.
TIMEOUT = timedelta(hours=2)
# accelerate's own configuration would override what was asked for here.
_ACCELERATE = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_CPU")
# As gloo and NCCL word it; the first letter is large or small.
_PEER_FAILURES = ("DistBackendError", "DistNetworkError", "onnection closed by peer", "reset by peer", "ProcessGroup")
_SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_STEP_NUM_TASKS", "LOCAL_RANK": "SLURM_LOCALID"}


def launched() -> bool:
    """True in a process that torchrun, accelerate or srun started as one of several; srun's names become torch's.

    Under srun MASTER_ADDR has to be set: without it every task is a run of its own, as with `--worker`.
    """
    environ = os.environ
    if "MASTER_ADDR" not in environ:
        return False
    if "RANK" not in environ and all(name in environ for name in _SLURM.values()):
        environ.update({name: environ[slurm_name] for name, slurm_name in _SLURM.items()})
        environ.setdefault("MASTER_PORT", "29500")
    return "RANK" in environ and "WORLD_SIZE" in environ


def first() -> bool:
    """True for rank 0, which alone writes and speaks; for a single process, too."""
    return int(os.environ["RANK"]) == 0 if launched() else True


def join(device: str) -> None:
    """Open the process group: NCCL on GPUs, one a rank, else gloo. UsageError for more ranks than GPUs."""
    import torch
    from accelerate import PartialState

    for name in _ACCELERATE:
        os.environ.pop(name, None)
    cpu = device == "cpu" or (device == "auto" and not torch.accelerator.is_available())
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if not cpu and local >= torch.accelerator.device_count():
        raise UsageError(
            f"rank {os.environ['RANK']} is process {local + 1} of its machine, which has "
            f"{torch.accelerator.device_count()} GPUs",
            "start one process a GPU",
        )
    # Else it is set from the number of cores, with a warning.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # accelerate's state is one a process: the Accelerator of each trainer finds this group, with this timeout.
    PartialState(cpu=cpu, timeout=TIMEOUT)


def is_peer_failure(error: BaseException) -> bool:
    """True for the error that a rank gets because another one has died: that one says why, not this."""
    text = f"{type(error).__name__} {error}"
    return any(sign in text for sign in _PEER_FAILURES)


def _joined() -> bool:
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()


def count() -> int:
    """How many ranks train together; 1 without a process group."""
    import torch

    return torch.distributed.get_world_size() if _joined() else 1


def rank() -> int:
    """Which one this is, from 0."""
    import torch

    return torch.distributed.get_rank() if _joined() else 0


def device_of_rank(device: str) -> str:
    """The device of this rank: its own GPU where there are several ranks."""
    import torch

    if not launched() or device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def all_gather(value: Any) -> list[Any]:
    """Everybody's value, pickled, in the order of ranks: as torch.distributed.all_gather_object."""
    import torch

    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    torch.distributed.all_gather_object(values, value)
    return values


def broadcast(value: Any) -> Any:
    """Rank 0's value, on every rank; the others' are ignored."""
    import torch

    if count() == 1:
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def all_reduce(values: Tensor, device: Any) -> Tensor:
    """The sum of everybody's tensor, on the CPU."""
    import torch

    if count() == 1:
        return values
    # NCCL adds up nothing that lies on a CPU.
    total = values.to(device)
    torch.distributed.all_reduce(total)
    return total.cpu()


def barrier() -> None:
    """Return once every rank has called it."""
    import torch

    if count() > 1:
        torch.distributed.barrier()
