"""Images of words: the typographic list card and the keyword card."""

from __future__ import annotations

import textwrap
import unicodedata
from functools import lru_cache

from PIL import Image, ImageDraw

from stages.world.drawing.painting import COLOURS, blank, font

PUBLISHED_SIZE = 760
"""FigStep's image, in pixels (arXiv:2311.05608)."""
PUBLISHED_WRAP = 15
"""FigStep's line length, in characters."""
ITEMS = 3
"""FigStep's empty numbered items."""
_KEYWORD = 0.25
_BAND = 0.18
"""Height of the band under an image, by the image's width."""
_SMALLEST_BAND = 16
_ROWS = (0.17, 0.5, 0.83)
_MARGIN, _FONT, _PITCH = 20, 80, 75
"""Measured on the published images: margin to the ink, font height, distance between lines."""
_READABLE = 20
"""Smallest font height worth drawing on an image of the published size."""
_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014\u2026", "''\"\"--.")
_NO_CHARACTER = "\uffff"
"""What Unicode promises never to be a character: drawn as the font's sign for a missing glyph."""


def list_lines(text: str, wrap: int = PUBLISHED_WRAP) -> list[str]:
    """The card's lines: the wrapped text, then the empty items `1.`, `2.`, `3.`."""
    return [*textwrap.wrap(plain_letters(text), width=wrap), *(f"{i}." for i in range(1, ITEMS + 1))]


def wrap_for(text: str) -> int | None:
    """FigStep's line length where its letters then fit from top to bottom, else the least that does.

    None for a text so long that no line length leaves letters that can be read.
    """
    room = PUBLISHED_SIZE - 2 * _MARGIN
    # The longest line is the one at which letters have shrunk to the least that can be read.
    for wrap in range(PUBLISHED_WRAP, _FONT * PUBLISHED_WRAP // _READABLE + 1):
        height = _FONT * PUBLISHED_WRAP / wrap
        if height * (1 + (len(list_lines(text, wrap)) - 1) * _PITCH / _FONT) <= room:
            return wrap
    return None


def drawable(text: str) -> bool:
    """Whether the font has a glyph for every character: other scripts would come out as empty boxes."""
    return all(c.isspace() or _has_glyph(c) for c in plain_letters(text))


def plain_letters(text: str) -> str:
    """Accents dropped, curly quotes and dashes made straight: the font has little beyond ASCII."""
    if text.isascii():
        return text
    # NFKD splits an accented letter into the letter and its accents, which are then left out.
    apart = unicodedata.normalize("NFKD", text.translate(_STRAIGHT))
    return "".join(c for c in apart if not unicodedata.combining(c))


@lru_cache(maxsize=4096)
def _has_glyph(character: str) -> bool:
    face = font(_FONT)
    # A glyph that is missing is drawn as an empty box, so its pixels are those of a character that can't exist.
    return bytes(face.getmask(character)) != bytes(face.getmask(_NO_CHARACTER))


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
    # 6 pixels is the end: below it nothing can be read, and a word that still does not fit runs over.
    while height > 6 and not _fits(pen, lines, height, size - 2 * margin):
        height -= 1
    face = font(height)
    pitch = height * _PITCH / _FONT
    # A font puts ink a little right of and below the point it is told; the published margin is to the ink.
    left, top, _, _ = pen.textbbox((0, 0), lines[0], font=face)
    for i, line in enumerate(lines):
        at = (margin - left + shift[0], margin - top + shift[1] + i * pitch)
        pen.text(at, line, fill=COLOURS["black"], font=face, stroke_width=height // 40)
    return image


def _fits(pen: ImageDraw.ImageDraw, lines: list[str], height: int, room: int) -> bool:
    face = font(height)
    wide = max(pen.textlength(line, font=face) for line in lines)
    return wide <= room and height * (1 + (len(lines) - 1) * _PITCH / _FONT) <= room


def _shrunk(pen: ImageDraw.ImageDraw, text: str, height: int, width: int) -> int:
    """The font height, or the largest below it at which one line leaves a margin."""
    while height > 6 and pen.textlength(text, font=font(height)) > 0.9 * width:
        height -= 1
    return height


def keyword_card(word: str, size: int, row: int = 1, over: bool = False, tint: int = 0) -> Image.Image:
    """One word or short phrase in large letters that fit, `size` x `size` pixels.

    It stands in one of three rows (0, 1, 2) with a line under it, or over it.
    """
    word = plain_letters(word)
    image = blank(size, tint)
    pen = ImageDraw.Draw(image)
    height = _shrunk(pen, word, round(size * _KEYWORD), size)
    y = size * _ROWS[row]
    pen.text((size / 2, y), word, fill=COLOURS["black"], font=font(height), anchor="mm", stroke_width=height // 40)
    line = y + size * (-0.15 if over else 0.15)
    pen.rectangle((size * 0.1, line - size * 0.02, size * 0.9, line + size * 0.02), fill=COLOURS["black"])
    return image


def banded(image: Image.Image, text: str) -> Image.Image:
    """The image with a white band below it that bears a short text."""
    text = plain_letters(text)
    band = max(_SMALLEST_BAND, round(image.width * _BAND))
    page = Image.new("RGB", (image.width, image.height + band), COLOURS["white"])
    page.paste(image, (0, 0))
    pen = ImageDraw.Draw(page)
    height = _shrunk(pen, text, round(band * 0.7), image.width)
    at = (image.width / 2, image.height + band / 2)
    pen.text(at, text, fill=COLOURS["black"], font=font(height), anchor="mm", stroke_width=height // 40)
    return page
