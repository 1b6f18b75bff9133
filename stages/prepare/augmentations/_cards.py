"""How cards vary: exactly as published for real data, a little loose inside the built-in world."""

from __future__ import annotations

from random import Random
from typing import Any

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import hints
from stages.world.case import content_key, draw_until, side
from stages.world.general import TINTS

_INKS = ("black", "red", "blue", "purple", "green")


def look(row: PromptRow, text: str, rng: Random) -> dict[str, Any]:
    """Shift, ink and tint of a card that bears `text`; as published without a hint of the picture's size.

    With one, looks come from the row's own side of the border: no test card was seen in training.
    """
    told = hints(row)
    if told.picture is None:
        return {}
    slack = told.picture // 28

    def draw() -> dict[str, Any]:
        shift = (rng.randint(0, slack), rng.randint(0, slack))
        return {"shift": shift, "ink": rng.choice(_INKS), "tint": rng.randrange(TINTS)}

    return draw_until(draw, lambda look: side(content_key(text, look)) == row.split) or draw()
