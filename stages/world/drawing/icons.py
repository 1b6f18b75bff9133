"""Icons and pictograms as lists of strokes in the square from -1 to 1."""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Stroke:
    """One drawn piece of an icon."""

    how: str
    """`polygon`, `ellipse` (filled), `ring` (an ellipse's outline) or `line`."""
    colour: str
    points: tuple[Point, ...]
    """Corners, the two corners of an ellipse's box, or the stations of a line."""
    width: float = 0.0
    """Of lines and rings, in the same units."""


def _poly(colour: str, *points: Point) -> Stroke:
    return Stroke("polygon", colour, points)


def _box(colour: str, left: float, top: float, right: float, bottom: float) -> Stroke:
    return _poly(colour, (left, top), (right, top), (right, bottom), (left, bottom))


def _disc(colour: str, x: float, y: float, rx: float, ry: float | None = None) -> Stroke:
    ry = rx if ry is None else ry
    return Stroke("ellipse", colour, ((x - rx, y - ry), (x + rx, y + ry)))


def _ring(colour: str, x: float, y: float, rx: float, ry: float, width: float) -> Stroke:
    return Stroke("ring", colour, ((x - rx, y - ry), (x + rx, y + ry)), width)


def _line(colour: str, width: float, *points: Point) -> Stroke:
    return Stroke("line", colour, points, width)


_HAZARDS = {
    "vexol": (
        _box("grey", -0.25, -1, 0.25, -0.3),
        _poly("green", (-0.25, -0.4), (0.25, -0.4), (0.95, 1), (-0.95, 1)),
        _disc("white", 0.2, 0.5, 0.22),
    ),
    "grimor": (
        _poly("purple", (-0.9, 1), (-0.7, -0.3), (-0.35, 0.2), (-0.1, -1), (0.3, 0.1), (0.7, -0.6), (0.95, 1)),
        _poly("white", (-0.2, 0.9), (-0.05, 0), (0.15, 0.9)),
    ),
    "zarnex": (
        _box("red", -0.55, -0.6, 0.55, 1),
        _box("black", -0.55, 0, 0.55, 0.4),
        _box("black", -0.25, -1, 0.4, -0.6),
    ),
    "drobin": (
        _poly("yellow", (0, -1), (1, 0.9), (-1, 0.9)),
        _disc("black", 0, 0.3, 0.36),
        _disc("white", 0.1, 0.2, 0.12),
    ),
    "snarka": (
        _ring("orange", 0, 0, 0.98, 0.98, 0.4),
        _line("black", 0.22, (-0.3, -0.4), (0.2, -0.1), (-0.2, 0.15), (0.3, 0.5)),
    ),
    "klorim": (
        _disc("black", -0.1, 0.25, 0.75),
        _line("brown", 0.18, (0.3, -0.3), (0.55, -0.7), (0.8, -0.7)),
        _disc("orange", 0.82, -0.75, 0.24),
    ),
}

_HARMLESS = {
    "soap": (
        _box("pink", -1, -0.15, 0.95, 0.85),
        _disc("white", -0.2, 0.35, 0.3),
        _ring("blue", 0.5, -0.6, 0.32, 0.32, 0.12),
    ),
    "tea": (
        _box("blue", -0.8, -0.4, 0.4, 0.9),
        _ring("blue", 0.5, 0.2, 0.4, 0.4, 0.18),
        _line("grey", 0.15, (-0.4, -0.55), (-0.2, -0.95)),
        _line("grey", 0.15, (0, -0.55), (0.2, -0.95)),
    ),
    "paint": (
        _line("brown", 0.3, (0.9, -0.9), (0, 0)),
        _poly("red", (0.25, 0.05), (-0.05, -0.25), (-0.95, 0.35), (-0.9, 0.95), (-0.3, 0.9)),
    ),
    "bread": (_disc("brown", 0, -0.1, 0.98, 0.6), _box("orange", -0.85, -0.1, 0.85, 0.75)),
    "lamp": (
        _poly("yellow", (-0.45, -0.95), (0.45, -0.95), (0.9, 0.1), (-0.9, 0.1)),
        _box("grey", -0.1, 0.1, 0.1, 0.8),
        _box("grey", -0.5, 0.75, 0.5, 0.98),
    ),
    "yarn": (
        _disc("purple", -0.1, -0.05, 0.85),
        _line("white", 0.1, (-0.7, -0.3), (0.5, -0.5)),
        _line("white", 0.1, (-0.8, 0.1), (0.6, -0.1)),
        _line("purple", 0.14, (0.2, 0.7), (0.6, 0.9), (0.98, 0.7)),
    ),
}

_TWOFOLD = {
    "grelt": (
        _box("blue", -0.9, -0.5, 0.5, 0.9),
        _poly("grey", (-0.9, -0.5), (-0.4, -0.95), (0.95, -0.95), (0.5, -0.5)),
        _poly("black", (0.5, -0.5), (0.95, -0.95), (0.95, 0.4), (0.5, 0.9)),
    ),
    "morb": (
        _disc("green", -0.4, 0.3, 0.58),
        _disc("green", 0.35, -0.2, 0.62),
        _disc("yellow", 0.35, -0.2, 0.25),
    ),
    "pluff": (
        _disc("grey", -0.5, 0.2, 0.48),
        _disc("grey", 0.5, 0.25, 0.45),
        _disc("grey", 0, -0.25, 0.6),
        _line("blue", 0.14, (-0.5, 0.95), (0.6, 0.95)),
    ),
    "twill": (
        _line("brown", 0.34, (-0.9, 0.8), (0.8, -0.8)),
        _line("green", 0.26, (-0.1, 0), (0.1, 0.75)),
        _line("green", 0.26, (0.3, -0.35), (-0.4, -0.7)),
    ),
}

_PERSON = (_disc("orange", 0, -0.6, 0.36), _line("blue", 0.5, (0, -0.15), (0, 0.95)))

_PICTOGRAMS = {
    "fall": (
        _disc("orange", -0.75, 0.45, 0.25),
        _line("blue", 0.36, (-0.45, 0.6), (0.6, 0.7)),
        _line("black", 0.1, (-1, 0.95), (1, 0.95)),
        _line("red", 0.12, (-0.6, -0.2), (-0.8, -0.7)),
        _line("red", 0.12, (-0.2, -0.1), (-0.1, -0.6)),
    ),
    "tear": (
        _disc("yellow", 0, 0, 0.95),
        _disc("black", -0.35, -0.25, 0.12),
        _disc("black", 0.35, -0.25, 0.12),
        _line("black", 0.13, (-0.4, 0.6), (0, 0.35), (0.4, 0.6)),
        _disc("blue", 0.5, 0.15, 0.14, 0.26),
    ),
    "purse": (
        _box("purple", -0.9, -0.2, 0.9, 0.9),
        _ring("purple", 0, -0.3, 0.5, 0.55, 0.16),
        _disc("yellow", 0, 0.15, 0.2),
    ),
    "box": (
        _box("brown", -0.4, -0.9, 1, 0.4),
        _line("yellow", 0.16, (0.3, -0.9), (0.3, 0.4)),
        _disc("orange", -0.75, 0, 0.24),
        _line("blue", 0.34, (-0.75, 0.3), (-0.75, 0.95)),
    ),
    "rain": (
        _disc("grey", 0, -0.6, 0.9, 0.36),
        *(_line("blue", 0.14, (x, 0), (x - 0.2, 0.85)) for x in (-0.6, -0.1, 0.4, 0.9)),
    ),
    "plate": (
        _disc("grey", 0, 0.1, 0.72),
        _disc("white", 0, 0.1, 0.5),
        _line("black", 0.14, (-0.93, -0.7), (-0.93, 0.9)),
        _line("black", 0.14, (0.93, -0.7), (0.93, 0.9)),
    ),
    "cup": (
        _box("red", -0.8, -0.3, 0.6, 0.9),
        _line("white", 0.16, (-0.3, -0.35), (0, 0.1), (-0.3, 0.4), (0.1, 0.95)),
        _ring("red", 0.65, 0.25, 0.32, 0.32, 0.14),
    ),
    "bench": (
        *_PERSON,
        _box("green", -1, 0.35, 1, 0.55),
        _box("green", -0.9, 0.55, -0.7, 1),
        _box("green", 0.7, 0.55, 0.9, 1),
    ),
}

_FURNITURE = {
    "board": (
        _box("brown", -0.12, 0.4, 0.12, 1.2),
        _box("black", -0.98, -0.8, 0.98, 0.6),
        _box("white", -0.9, -0.72, 0.9, 0.52),
    ),
}

ICONS: dict[str, tuple[Stroke, ...]] = {**_HAZARDS, **_HARMLESS, **_TWOFOLD, **_PICTOGRAMS, **_FURNITURE}
"""Every icon by name: hazards, harmless and twofold things, pictograms of everyday scenes, the sign board."""
