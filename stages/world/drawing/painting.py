"""Scenes to PNG bytes with Pillow: the same scene, size and Pillow version, the same bytes."""

from __future__ import annotations

import io
import math
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from stages.world.drawing.icons import ICONS, Stroke
from stages.world.scene import Mark, Scene

COLOURS = {
    "red": (222, 38, 38),
    "blue": (36, 84, 224),
    "green": (30, 160, 60),
    "yellow": (246, 214, 30),
    "purple": (146, 50, 190),
    "orange": (246, 138, 24),
    "black": (20, 20, 20),
    "pink": (250, 130, 190),
    "brown": (136, 84, 44),
    "grey": (130, 130, 136),
    "white": (255, 255, 255),
}
"""Every ink of the world."""

_TINTS = (
    *((255, 255, 255), (228, 238, 250), (250, 240, 220), (228, 246, 230)),
    *((244, 230, 244), (240, 240, 240), (250, 232, 232), (230, 244, 246)),
)
Points = tuple[tuple[float, float], ...]


def _ring(corners: int, inner: float, turn: float = -90.0) -> Points:
    """A star (inner < 1) or regular polygon outline of radius 1."""
    steps = corners * 2
    angles = [math.radians(turn + 360 * i / steps) for i in range(steps)]
    radii = [1.0 if i % 2 == 0 else inner for i in range(steps)]
    return tuple((r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True))


# The well-known heart curve, 16 sin^3 t and 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t, at 24 angles.
def _heart() -> Points:
    angles = [2 * math.pi * i / 24 for i in range(24)]
    return tuple(
        (
            math.sin(a) ** 3,
            -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) / 16,
        )
        for a in angles
    )


_T = 0.38
_OUTLINES: dict[str, Points] = {
    "square": ((-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)),
    "triangle": ((0, -1), (1, 0.85), (-1, 0.85)),
    "star": _ring(5, 0.42),
    "cross": (
        (-_T, -1), (_T, -1), (_T, -_T), (1, -_T), (1, _T), (_T, _T),
        (_T, 1), (-_T, 1), (-_T, _T), (-1, _T), (-1, -_T), (-_T, -_T),
    ),
    "heart": _heart(),
}  # fmt: skip
"""Shapes as outlines in the square from -1 to 1; the circle is drawn as such."""


@lru_cache(maxsize=64)
def font(height: int) -> ImageFont.FreeTypeFont:
    """Pillow's own scalable font, so that no machine's fonts matter."""
    loaded = ImageFont.load_default(size=height)
    # Pillow gives a bitmap font of one size where it was built without FreeType.
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise RuntimeError("this Pillow has no FreeType: words in images can't be drawn")
    return loaded


def blank(size: int, tint: int = 0) -> Image.Image:
    """An empty square image on one of the light backgrounds."""
    return Image.new("RGB", (size, size), _TINTS[tint])


def png(image: Image.Image) -> bytes:
    """The encoded image; lightly compressed, as it is drawn once and small anyway."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def render(scene: Scene, size: int) -> bytes:
    """A scene as PNG bytes, `size` x `size` pixels."""
    return png(paint(scene, size))


def paint(scene: Scene, size: int) -> Image.Image:
    """A scene as an image, `size` x `size` pixels."""
    image = blank(size, scene.tint)
    pen = ImageDraw.Draw(image)
    for mark in scene.marks:
        _MARKS[mark.kind](pen, mark, size)
    return image


def _pixels(mark: Mark, size: int, points: Points) -> list[tuple[float, float]]:
    x, y, r = (v * size / 100 for v in (mark.x, mark.y, mark.size / 2))
    return [(x + px * r, y + py * r) for px, py in points]


def _shape(pen: ImageDraw.ImageDraw, mark: Mark, size: int) -> None:
    fill = COLOURS[mark.colour]
    if mark.name == "circle":
        pen.ellipse(_pixels(mark, size, ((-0.95, -0.95), (0.95, 0.95))), fill=fill)
    else:
        pen.polygon(_pixels(mark, size, _OUTLINES[mark.name]), fill=fill)


def _icon(pen: ImageDraw.ImageDraw, mark: Mark, size: int) -> None:
    for stroke in ICONS[mark.name]:
        _stroke(pen, stroke, mark, size)


def _stroke(pen: ImageDraw.ImageDraw, stroke: Stroke, mark: Mark, size: int) -> None:
    fill = COLOURS[stroke.colour]
    points = _pixels(mark, size, stroke.points)
    # Strokes of small images would round to nothing.
    width = max(1, round(stroke.width * mark.size / 100 * size / 2))
    if stroke.how == "polygon":
        pen.polygon(points, fill=fill)
    elif stroke.how == "ellipse":
        pen.ellipse(points, fill=fill)
    elif stroke.how == "ring":
        pen.ellipse(points, outline=fill, width=width)
    else:
        pen.line(points, fill=fill, width=width, joint="curve")


def _word(pen: ImageDraw.ImageDraw, mark: Mark, size: int) -> None:
    at = (mark.x * size / 100, mark.y * size / 100)
    height = mark.size * size // 100
    # A thicker stroke helps large letters and fills the holes of small ones.
    stroke = 1 if height >= 24 else 0
    pen.text(at, mark.name, fill=COLOURS[mark.colour], font=font(height), anchor="mm", stroke_width=stroke)


_MARKS = {"shape": _shape, "icon": _icon, "word": _word}
