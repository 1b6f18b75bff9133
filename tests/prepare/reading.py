"""Words read back from the pixels of a list card, by matching glyphs of the font it was drawn with."""

from __future__ import annotations

import itertools
import string

import numpy as np
from PIL import Image, ImageDraw

from stages.world.drawing.cards import ITEMS
from stages.world.drawing.painting import font

ALPHABET = string.ascii_lowercase + "123 .?"
_BEAM, _WORSE = 4, 0.5
"""Readings kept while a line is read: an l is the left edge of an h until the next letter fails."""


def dark(image: Image.Image) -> np.ndarray:
    """Where there is ink."""
    return np.asarray(image.convert("L")) < 128


def bands(ink: np.ndarray) -> list[tuple[int, int]]:
    """(first row, row after the last) of every run of rows with ink."""
    rows = np.flatnonzero(np.diff(np.r_[0, ink.any(axis=1), 0]))
    return list(zip(rows[::2].tolist(), rows[1::2].tolist(), strict=True))


def drawn(text: str, height: int, size: tuple[int, int], at: tuple[int, int]) -> np.ndarray:
    """The text as our own hand would draw it."""
    page = Image.new("L", size, 255)
    ImageDraw.Draw(page).text(at, text, fill=0, font=font(height), stroke_width=height // 40)
    return np.asarray(page) < 128


def read_list(card: Image.Image) -> list[str]:
    """The lines of a list card, the numbered items included.

    The items are what the page is measured by: the distance of the last two gives the size of the letters, the last
    one's place gives the grid of lines. A card without them is not read.
    """
    ink = dark(card)
    found = bands(ink)
    pitch = found[-1][1] - found[-2][1]
    height = round(pitch * 80 / 75)
    last = f"{ITEMS}."
    probe = drawn(last, height, card.size, (100, 100))
    bottom = bands(probe)[-1][1] - 100
    left = int(np.flatnonzero(probe.any(axis=0))[0]) - 100
    # The left edge of the last item, not of the page: each letter leaves another space before itself.
    item = ink[found[-1][0] : found[-1][1]]
    x, y = int(np.flatnonzero(item.any(axis=0))[0]) - left, found[-1][1] - bottom
    tops = []
    while y + 2 * pitch / 3 > found[0][0]:
        tops.append(round(y))
        y -= pitch
    return [_read_line(ink, height, (x, top)) for top in reversed(tops)]


def _read_line(ink: np.ndarray, height: int, at: tuple[int, int]) -> str:
    """The likeliest text whose drawing explains the line's ink from left to right."""
    # Tails of the line above reach below the tops of this one's letters, and so on: only rows between are sure.
    pitch = round(height * 75 / 80)
    high = font(height).getbbox("f", stroke_width=height // 40)[1] + pitch
    low = font(height).getbbox("g", stroke_width=height // 40)[3] - pitch
    strip = ink[at[1] + low : at[1] + high]
    end = int(np.flatnonzero(strip.any(axis=0))[-1]) + 1
    beams, finished = [("", 0.0)], []
    while beams:
        longer = []
        for text, c in itertools.product([b[0] for b in beams], ALPHABET):
            if c == " " and (not text or text[-1] == " "):
                continue
            image = drawn(text + c, height, (end + height, high), (at[0], 0))[low:]
            columns = np.flatnonzero(image.any(axis=0))
            upto = int(columns[-1]) + 1 if len(columns) else 0
            if upto <= end + 2:
                seen = strip[:, :upto] if upto <= strip.shape[1] else np.pad(strip, ((0, 0), (0, 9)))[:, :upto]
                wrong = float((image[:, :upto] != seen).sum()) / (upto + 1)
                (finished if upto >= end - 1 else longer).append((text + c, wrong))
        beams = sorted(longer, key=lambda b: b[1])[:_BEAM]
        beams = [b for b in beams if b[1] < beams[0][1] + _WORSE]
    return min(finished, key=lambda b: b[1], default=("", 0.0))[0].rstrip()
