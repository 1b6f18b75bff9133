"""How cards vary: exactly as published for real data, a little loose inside the built-in world."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from schemas.prompts import PromptRow
from stages.prepare.augmentations.base import hints
from stages.world.chance import content_key, draw_until
from stages.world.general import TINTS
from stages.world.lexicon import LIST_TEXT
from stages.world.scene import side

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

CARD_SIZE = 448
"""Side of a card of one word where the row asks for none, in pixels."""
_SMALL = 300
"""Below this many pixels, lines are shorter and letters larger, or nothing could be read."""
_SMALL_WRAP = 6


def look(row: PromptRow, text: str, rng: Random, vary: Callable[[Random], dict[str, Any]]) -> dict[str, Any]:
    """Tint and what `vary` draws for a card that bears `text`; nothing without a hint of its size.

    Looks come from the row's own side of the border: no test card was seen in training.
    """
    if hints(row).image is None:
        return {}

    def draw() -> dict[str, Any]:
        return {**vary(rng), "tint": rng.randrange(TINTS)}

    # None after 400 looks of the other side; then any look will do, for a card is better than no row.
    return draw_until(draw, lambda found: side(content_key(text, found)) == row.split) or draw()


def can_be_drawn(text: str) -> bool:
    """Whether there is something to draw, and the font has a glyph for all of it."""
    from stages.world.drawing.cards import drawable

    return bool(text.strip()) and drawable(text)


def can_be_listed(row: PromptRow) -> bool:
    """Whether the row's title fits on a list card in letters that can be read."""
    from stages.world.drawing.cards import wrap_for

    title = hints(row).title
    return can_be_drawn(title) and (_small(row) or wrap_for(title) is not None)


def list_of(row: PromptRow, rng: Random) -> PillowImage:
    """FigStep's card of the row's title; wider lines of smaller letters where the published ones can't hold it."""
    from stages.world.drawing.cards import PUBLISHED_SIZE, PUBLISHED_WRAP, list_card, wrap_for

    known = hints(row)
    wrap = _SMALL_WRAP if _small(row) else wrap_for(known.title) or PUBLISHED_WRAP
    shown = look(row, known.title, rng, lambda r: {"shift": (r.randrange(2), r.randrange(2))})
    return list_card(known.title, known.image or PUBLISHED_SIZE, wrap, **shown)


def list_text(row: PromptRow) -> str:
    """The harmless words beside a list card."""
    return f"{hints(row).context} {LIST_TEXT}".strip()


def _small(row: PromptRow) -> bool:
    return (hints(row).image or _SMALL) < _SMALL
