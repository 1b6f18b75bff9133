"""Draws that can be named, and so repeated: keys over plain values, generators and draws made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")


def content_key(*parts: Any) -> str:
    """16 hex digits over plain values: the world's scene keys, record keys and seeds."""
    # Not `schemas.identity.digest`, though much alike: every draw of the world, and so every row, follows from this
    # spelling.
    text = json.dumps(parts, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def rng_for(*parts: Any) -> Random:
    """A generator of its own for anything that can be named."""
    return Random(int(content_key(*parts), 16))


def percent(rng: Random, low: int, high: int) -> int:
    """A position or size in percent of an image's side, `low` to `high` in steps of 2.

    Coarse on purpose: two scenes that differ at all then differ in their pixels too, however small the image.
    """
    return rng.randrange(low, high + 1, 2)


def draw_until(make: Callable[[], T], good: Callable[[T], bool], tries: int = 400) -> T | None:
    """The first good draw, or None when `tries` draws held none."""
    for _ in range(tries):
        drawn = make()
        if good(drawn):
            return drawn
    return None
