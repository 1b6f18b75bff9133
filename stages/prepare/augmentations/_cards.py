"""How cards vary: exactly as published for real data, a little loose inside the built-in world."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import hints
from stages.world.case import content_key, draw_until, side
from stages.world.general import TINTS


def look(row: PromptRow, text: str, rng: Random, vary: Callable[[Random], dict[str, Any]]) -> dict[str, Any]:
    """Tint and what `vary` draws for a card that bears `text`; nothing without a hint of its size.

    Looks come from the row's own side of the border: no test card was seen in training.
    """
    if hints(row).picture is None:
        return {}

    def draw() -> dict[str, Any]:
        return {**vary(rng), "tint": rng.randrange(TINTS)}

    return draw_until(draw, lambda found: side(content_key(text, found)) == row.split) or draw()
