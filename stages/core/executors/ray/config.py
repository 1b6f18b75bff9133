"""What `--set executor.NAME=VALUE` sets with `--executor ray`."""

from __future__ import annotations

from dataclasses import dataclass

from stages.core.config import option


@dataclass(frozen=True)
class RayConfig:
    """Which cluster, and what one worker takes of it."""

    address: str = option(
        "", "HOST:6379, or auto for one on this machine; left out: RAY_ADDRESS, else one is started", affects=False
    )
    workers: int = option(0, "Most workers at a time; 0: as many as there is room for", low=0, affects=False)
    cpus: float = option(1.0, "CPU cores a worker takes", low=0.0, affects=False)
    gpus: float = option(
        -1.0, "GPUs a worker takes; -1: what its engine or judges need, where there are any", low=-1.0, affects=False
    )
