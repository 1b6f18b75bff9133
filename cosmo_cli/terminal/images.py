"""A prompt's images on a terminal that can show them, small; everywhere else an image is said in words.

Three ways, by what the terminal says it is: kitty's graphics protocol, iTerm2's inline images, and half blocks in true
colour, which need neither. What is sent is a thumbnail of our own making, never a byte of the row's image.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image as Pillow
    from rich.text import Text

    from schemas.values import Image

MOST_COLUMNS, MOST_ROWS = 40, 12
_PIXELS = 480
"""The longer side of what a terminal with graphics is sent: about twice the cells it takes."""
_INDENT = "  "
_CHUNK = 4096
"""Bytes of one escape sequence of kitty's, at most."""


class Images(StrEnum):
    """How images are shown."""

    AUTO = "auto"
    NEVER = "never"
    KITTY = "kitty"
    ITERM = "iterm"
    BLOCKS = "blocks"


def way_of(environ: Mapping[str, str]) -> Images:
    """The best way for a terminal with this environment; never where it says nothing that tells."""
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if environ.get("NO_COLOR") or term in ("", "dumb"):
        return Images.NEVER
    # A multiplexer swallows graphics, and its windows keep the variables of the terminal it was started in.
    if not (environ.get("TMUX") or term.startswith(("screen", "tmux"))):
        if term in ("xterm-kitty", "xterm-ghostty") or environ.get("KITTY_WINDOW_ID") or program == "ghostty":
            return Images.KITTY
        if program in ("iTerm.app", "WezTerm"):
            return Images.ITERM
    return Images.BLOCKS if environ.get("COLORTERM") in ("truecolor", "24bit") else Images.NEVER


def drawn_image(image: Image, way: Images, columns: int, rows: int) -> str | Text | None:
    """What shows it in at most so many cells: an escape sequence, or text of half blocks. None for what is no image.

    Bytes are a stranger's: their size is checked as `cosmo prepare` checks it before any pixel is decoded.
    """
    if (small := _thumbnail(image)) is None:
        return None
    columns, rows = cells(small.size, min(columns - len(_INDENT), MOST_COLUMNS), min(rows, MOST_ROWS))
    if way == Images.BLOCKS:
        return _blocks(small, columns, rows)
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return _INDENT + (_kitty if way == Images.KITTY else _iterm)(buffer.getvalue(), columns, rows)


def cells(size: tuple[int, int], columns: int, rows: int) -> tuple[int, int]:
    """Columns and rows of an image of that size, as large as fits: a cell is about twice as high as it is wide."""
    width, height = size
    wide = max(1, min(columns, round(rows * 2 * width / height)))
    return wide, max(1, min(rows, round(wide * height / (2 * width))))


def _thumbnail(image: Image) -> Pillow.Image | None:
    from PIL import Image as Pillow

    from stages.core.errors import BadSample
    from stages.eval.report.sample import scaled_image
    from stages.models.image_checks import Limits, check_image, silence_pillow
    from stages.prepare.config import PrepareConfig

    config = PrepareConfig()
    try:
        with silence_pillow():
            checked = check_image(image.bytes, "image", Limits(config.max_image_bytes, config.max_image_pixels, 1))
            found = scaled_image(checked, _PIXELS)
    except BadSample:
        return None
    return Pillow.open(io.BytesIO(found[1])).convert("RGB") if found is not None else None


def _kitty(png: bytes, columns: int, rows: int) -> str:
    """Shown at once, and q=2: the terminal answers nothing (https://sw.kovidgoyal.net/kitty/graphics-protocol)."""
    data = base64.b64encode(png).decode()
    chunks = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    sent = []
    for number, chunk in enumerate(chunks):
        first = f"a=T,f=100,q=2,c={columns},r={rows}," if number == 0 else ""
        sent.append(f"\x1b_G{first}m={int(number + 1 < len(chunks))};{chunk}\x1b\\")
    return "".join(sent)


def _iterm(png: bytes, columns: int, rows: int) -> str:
    """iTerm2's inline image: https://iterm2.com/documentation-images.html."""
    data = base64.b64encode(png).decode()
    return f"\x1b]1337;File=inline=1;size={len(png)};width={columns};height={rows}:{data}\x07"


def _blocks(small: Pillow.Image, columns: int, rows: int) -> Text:
    """Two pixels a cell, one above the other: a half block in the upper one's colour on the lower one's."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    pixels = small.resize((columns, 2 * rows)).load()
    assert pixels is not None
    text = Text()
    for y in range(0, 2 * rows, 2):
        text.append(_INDENT)
        for x in range(columns):
            upper, lower = (Color.from_rgb(*pixels[x, line]) for line in (y, y + 1))  # type: ignore[misc]
            text.append("▀", Style(color=upper, bgcolor=lower))
        text.append("\n")
    text.right_crop(1)
    return text
