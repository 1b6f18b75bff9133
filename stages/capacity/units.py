"""Bytes: what a number takes, and how people say sizes."""

from __future__ import annotations

GIB = 1 << 30
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number, by dtype."""
MOMENTS = 2
"""Numbers that AdamW keeps of each parameter (arXiv:1711.05101): the mean of its gradients and of their squares."""
STATES = 1 + MOMENTS
"""A policy on disk: its weights, and its trainer state of the moments."""
PROMPT_TOKENS = 2048
"""The longest prompt with its images, where nobody says otherwise: rows are made only when the recipe runs."""

Parts = dict[str, int]
"""Bytes by what they are for, in the order in which they are shown."""


def size(count: float) -> str:
    """A number of bytes as people say it: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1024
    return f"{count:.1f} TiB"
