"""The learning rate as a pure function of the step: stopping, resuming and chaining runs can't shift it."""

from __future__ import annotations

import math


def rate_factor(step: int, *, shape: str, warmup: int, total: int, floor: float) -> float:
    """The share of the peak rate used in optimizer step `step` (from 0).

    Linear warm-up to 1 over `warmup` steps, then `cosine` or `linear` down to `floor` at step `total`, and
    `floor` from there on. `constant`, or a `total` of 0, stays at 1.
    """
    if step < warmup:
        return (step + 1) / warmup
    if shape == "constant" or total <= 0:
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    if shape == "cosine":
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
    if shape == "linear":
        return floor + (1.0 - floor) * (1.0 - progress)
    raise ValueError(f"unknown schedule {shape!r}")
