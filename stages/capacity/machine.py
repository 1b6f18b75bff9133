"""The machine that a recipe is to run on: described in a word, by flags, or this one. Loads no torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.capacity.units import GIB
from stages.core.errors import UsageError

# What torch sees of each card, GiB: a card of "80 GB" has 79.
CARDS = {"a100": 79, "h100": 79, "h200": 140, "b200": 178, "l40s": 44}
# A node of eight: NVIDIA's DGX A100 (80 GB), H100 and H200 have 2 TB of memory and 30 TB of fast disk. Fewer cards are
# taken to be their part of such a node.
_HOST_GIB, _DISK_GIB, _NODE = 2000, 27_000, 8
# CUDA's context, NCCL's and cuBLAS' own buffers, and what the allocator can't use of its blocks: ours, no measurement.
_CONTEXT, _USABLE = 1 * GIB, 0.95
_GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine; where there are several, each of them."""

    name: str
    """As it was typed; `this machine` for this one."""
    gpus: int
    """How many GPUs it has; 0: everything is done on its CPU."""
    gpu_bytes: int
    """Memory of one GPU."""
    host_bytes: int
    """Memory of the machine itself."""
    disk_bytes: int
    """Free room where the run folders go."""

    @property
    def usable_gpu(self) -> int:
        """What tensors can have of one GPU."""
        return max(0, int(self.gpu_bytes * _USABLE) - _CONTEXT)


def machine_named(text: str) -> Machine:
    """`8xh100`, `h200`, `4xa100`; UsageError for a card that is not known."""
    count, _, card = text.lower().rpartition("x")
    number = int(count) if count.isdecimal() else 1
    if card not in CARDS or number < 1 or (count and not count.isdecimal()):
        raise UsageError(
            f"--machine {text!r} is not N x CARD",
            f"8xh100; cards: {', '.join(CARDS)}; others: --gpus 8 --gpu-memory 80 --host-memory 2000",
        )
    part = number / _NODE
    return Machine(text, number, CARDS[card] * GIB, int(_HOST_GIB * part) * GIB, int(_DISK_GIB * part) * GIB)


def described(
    name: str, runs: Path, *, gpus: int | None, gpu_gib: float | None, host_gib: float | None, disk_gib: float | None
) -> Machine:
    """The named machine, or this one without a name, with what the flags say of it; None says nothing.

    UsageError for GPUs whose memory nothing tells.
    """
    machine = machine_named(name) if name else this_machine(runs)
    given = {
        "gpus": gpus,
        "gpu_bytes": None if gpu_gib is None else int(gpu_gib * GIB),
        "host_bytes": None if host_gib is None else int(host_gib * GIB),
        "disk_bytes": None if disk_gib is None else int(disk_gib * GIB),
    }
    told: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    machine = replace(machine, **told)
    if machine.gpus and not machine.gpu_bytes:
        raise UsageError(f"--gpus {machine.gpus}, and nothing says how much memory each has", "--gpu-memory 80")
    return machine


def this_machine(runs: Path) -> Machine:
    """The one this process runs on, its GPUs as the driver reports them; disk is that of the runs folder."""
    memory = _gpu_memory()
    place = existing(runs)
    gpu = min(memory, default=0)
    return Machine("this machine", len(memory), gpu, host_memory(), shutil.disk_usage(place).free)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there: a runs folder may not have been made yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place


def host_memory() -> int:
    """Bytes of memory that this process may have: the machine's, or a container's limit where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="ascii").strip() if limit.is_file() else ""
    return min(total, int(text)) if text.isdecimal() else total


def _gpu_memory() -> list[int]:
    """Bytes of each visible GPU; torch would say the same after seconds of loading."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not _GPUS.is_dir() or visible in ("", "-1"):
        return []
    ask = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    memory = [int(line) << 20 for line in re.findall(r"^\s*(\d+)\s*$", said, re.MULTILINE)]
    return memory[: len(visible.split(","))] if visible is not None else memory
