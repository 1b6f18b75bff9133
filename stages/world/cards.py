"""Pictures of words: the typographic list card and the keyword card."""

from __future__ import annotations

import textwrap

from PIL import Image, ImageDraw

from stages.world.draw import COLOURS, blank, font

PUBLISHED_SIZE = 760
"""FigStep's picture, in pixels (arXiv:2311.05608)."""
PUBLISHED_WRAP = 15
"""FigStep's line length, in characters."""
ITEMS = 3
"""FigStep's empty numbered items."""
_KEYWORD = 0.25
_ROWS = (0.17, 0.5, 0.83)
_MARGIN, _FONT, _PITCH = 20, 80, 75
"""Measured on the published pictures: margin to the ink, font height, distance between lines."""


def list_lines(text: str, wrap: int = PUBLISHED_WRAP) -> list[str]:
    """The card's lines: the wrapped text, then the empty items `1.`, `2.`, `3.`."""
    return [*textwrap.wrap(text, width=wrap), *(f"{i}." for i in range(1, ITEMS + 1))]


def list_card(
    text: str,
    size: int = PUBLISHED_SIZE,
    wrap: int = PUBLISHED_WRAP,
    shift: tuple[int, int] = (0, 0),
    tint: int = 0,
) -> Image.Image:
    """FigStep's card, scaled to `size` x `size` pixels; a shorter `wrap` makes the letters larger.

    Letters shrink until every line fits. `shift` moves the text by pixels and is 0 in the published geometry.
    """
    scale = size / PUBLISHED_SIZE
    lines = list_lines(text, wrap)
    margin = max(1, round(_MARGIN * scale))
    height = round(_FONT * scale * PUBLISHED_WRAP / wrap)
    image = blank(size, tint)
    pen = ImageDraw.Draw(image)
    while height > 6 and not _fits(pen, lines, height, size - 2 * margin):
        height -= 1
    face = font(height)
    pitch = height * _PITCH / _FONT
    left, top, _, _ = pen.textbbox((0, 0), lines[0], font=face)
    for i, line in enumerate(lines):
        at = (margin - left + shift[0], margin - top + shift[1] + i * pitch)
        pen.text(at, line, fill=COLOURS["black"], font=face, stroke_width=height // 40)
    return image


def _fits(pen: ImageDraw.ImageDraw, lines: list[str], height: int, room: int) -> bool:
    face = font(height)
    wide = max(pen.textlength(line, font=face) for line in lines)
    return wide <= room and height * (1 + (len(lines) - 1) * _PITCH / _FONT) <= room


def keyword_card(word: str, size: int, row: int = 1, over: bool = False, tint: int = 0) -> Image.Image:
    """One word or short phrase in large letters that fit, `size` x `size` pixels.

    It stands in one of three rows (0, 1, 2) with a line under it, or over it.
    """
    image = blank(size, tint)
    pen = ImageDraw.Draw(image)
    height = round(size * _KEYWORD)
    while height > 6 and pen.textlength(word, font=font(height)) > 0.9 * size:
        height -= 1
    y = size * _ROWS[row]
    pen.text((size / 2, y), word, fill=COLOURS["black"], font=font(height), anchor="mm", stroke_width=height // 40)
    line = y + size * (-0.15 if over else 0.15)
    pen.rectangle((size * 0.1, line - size * 0.02, size * 0.9, line + size * 0.02), fill=COLOURS["black"])
    return image
