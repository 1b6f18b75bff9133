"""Small inline SVG plots: dots with intervals, lines, and a trade-off scatter.

Colours are CSS classes (`p0` the first policy, `l0` the first label), so the page's light and dark themes
apply. Every number drawn is also a tooltip, and each plot has a text label for readers who can't see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from stages.eval.report.numbers import interval, tick, value

WIDTH = 340
Scale = Callable[[float], float]
"""Where on the page a value is."""
# A scatter of more spots has their names in a column of its own.
_FEW_SPOTS, _NAMES_WIDTH, _LINE = 4, 118, 13.5


@dataclass(frozen=True, slots=True)
class Dot:
    """One estimate with its interval, in the colour of its policy."""

    colour: str
    name: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class DotRow:
    """One line of a dot plot: a slice, with a dot a policy."""

    name: str
    note: str
    dots: list[Dot]


@dataclass(frozen=True, slots=True)
class Bar:
    """So many, of which a part; `note` says both in words."""

    colour: str
    name: str
    all: int
    part: int
    note: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart, in segments of (x, y)."""

    colour: str
    name: str
    segments: list[list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of steps that something is to be said of."""

    name: str
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Spot:
    """One policy in the trade-off scatter: both rates with their intervals."""

    colour: str
    name: str
    x: tuple[float, float, float]
    """value, low, high."""
    y: tuple[float, float, float]


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`, about `most` of them."""
    span = high - low if high > low else max(abs(high), 1.0)
    raw = span / max(1, most - 1)
    # The next 1, 2, 2.5, 5 or 10 times a power of ten; 0.999 and 1e-9 let round numbers be what they are in spite of
    # floats.
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    """From `low` to `high` in values, from `start` to `end` on the page."""
    factor = (end - start) / (high - low)
    offset = start - low * factor
    return lambda at: at * factor + offset


def _open(height: float, label: str, width: float = WIDTH) -> list[str]:
    return [
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}" class="plot">',
    ]


def _text(kind: str, x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _rule(x1: float, x2: float, y1: float, y2: float, kind: str = "grid") -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _upright_grid(
    marks: Sequence[float], to_x: Scale, top: float, bottom: float, rate: bool, below: float = 14
) -> Iterator[str]:
    """A rule at each mark, with its number below."""
    for x, mark in zip(map(to_x, marks), marks, strict=True):
        yield _rule(x, x, top, bottom)
        yield _text("tick", x, bottom + below, tick(mark, rate))


def _level_grid(marks: Sequence[float], to_y: Scale, left: float, right: float, rate: bool) -> Iterator[str]:
    """A rule at each mark, with its number to the left."""
    for y, mark in zip(map(to_y, marks), marks, strict=True):
        yield _rule(left, right, y, y)
        yield _text("tick", left - 6, y + 3.5, tick(mark, rate), "end")


def strip(dots: Sequence[Dot], *, rate: bool, label: str) -> Markup:
    """One metric's dots under each other, for a table cell: 0 to 100 % for rates, else from 0."""
    width, edge, top = 240, 14, 7
    ends = [v for d in dots for v in (d.value, d.high) if v is not None]
    # Never an empty scale, where all values are 0.
    last = 1.0 if rate else ticks(0.0, max([*ends, 1e-9]), 3)[-1]
    to_x = _scale(0.0, last, edge, width - edge)
    bottom = top + 14 * len(dots)
    out = [f'<svg viewBox="0 0 {width} {bottom + 15}" role="img" aria-label="{escape(label)}" class="plot strip">']
    out += _upright_grid((0.0, last / 2, last), to_x, 2, bottom, rate, below=12)
    for i, dot in enumerate(dots):
        out += _dot(dot, top + 14 * i + 4, to_x, rate)
    return Markup("".join([*out, "</svg>"]))


def dot_plot(rows: Sequence[DotRow], *, rate: bool, label: str) -> Markup:
    """Rows of dots with their 95 % intervals and values on one scale that starts at 0."""
    left, right, top = 96, WIDTH - 46, 4
    ends = [v for r in rows for d in r.dots for v in (d.value, d.low, d.high) if v is not None]
    # A rate's axis ends at 100 %, wherever its interval's ticks would.
    marks = [m for m in ticks(min(0.0, *ends), max(*ends, 0.02)) if not rate or m <= 1 + 1e-9]
    to_x = _scale(marks[0], max(marks[-1], *ends), left, right)
    heights = [13 * len(r.dots) + 9 for r in rows]
    bottom = top + sum(heights)
    out = [*_open(bottom + 18, label), *_upright_grid(marks, to_x, top, bottom, rate)]
    y = float(top)
    for row, height in zip(rows, heights, strict=True):
        middle = y + height / 2
        name = row.name if len(row.name) <= 16 else row.name[:15] + "…"
        out.append(
            f'<text class="name" x="{left - 10}" y="{middle + 4:.1f}" text-anchor="end">{escape(name)}'
            f"<title>{escape(row.name)} {escape(row.note)}</title></text>"
        )
        for i, dot in enumerate(row.dots):
            at = middle + (i - (len(row.dots) - 1) / 2) * 13
            out += [*_dot(dot, at, to_x, rate), _number(dot, at, to_x, rate)]
        y += height
    return Markup("".join([*out, "</svg>"]))


def bars(rows: Sequence[Bar], *, label: str) -> Markup:
    """A bar a row on one scale from 0, its part in full colour; name and numbers stand above it, for names are long."""
    height, last = 31, max(1, *(bar.all for bar in rows))
    to_x = _scale(0.0, last, 0.0, WIDTH)
    out = _open(height * len(rows) + 2, label)
    for number, bar in enumerate(rows):
        y = height * number
        # About 6 units a letter; a picture of its own cuts off what a name of wide ones takes beyond that.
        room = max(50.0, WIDTH - 6.2 * len(bar.note) - 8)
        name = bar.name if len(bar.name) <= room / 6.2 else bar.name[: int(room / 6.2) - 1] + "…"
        out.append(f'<g class="{bar.colour}"><title>{escape(bar.name)}: {escape(bar.note)}</title>')
        out.append(f'<svg y="{y}" width="{room:.1f}" height="17">{_text("name", 0, 12, name, "start")}</svg>')
        out.append(_text("value", WIDTH, y + 12, bar.note, "end"))
        for kind, count in (("rest", bar.all), ("bar", bar.part)):
            out.append(f'<rect class="{kind}" x="0" y="{y + 17}" width="{to_x(count):.1f}" height="8" rx="2"/>')
        out.append("</g>")
    return Markup("".join([*out, "</svg>"]))


def _dot(dot: Dot, y: float, to_x: Scale, rate: bool) -> list[str]:
    x = to_x(dot.value)
    whisker = ""
    if dot.low is not None and dot.high is not None:
        whisker = _rule(to_x(dot.low), to_x(dot.high), y, y, "whisker")
    label = f"{dot.name}: {value(dot.value, rate)} ({interval(dot.low, dot.high, rate)})"
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    return [f'<g class="{dot.colour}">', whisker, circle, f"<title>{escape(label)}</title></g>"]


def _number(dot: Dot, y: float, to_x: Scale, rate: bool) -> str:
    """The value, right of its interval; the plot leaves room for it."""
    x = to_x(max(dot.value, dot.high or dot.value)) + 7
    return _text("value", x, y + 3.6, value(dot.value, rate), "start")


def line_chart(
    lines: Sequence[Line], *, rate: bool, label: str, height: int = 170, bands: Sequence[Band] = ()
) -> Markup:
    """Lines over optimizer steps; bands mark stretches of them."""
    left, right, top, bottom = 46, WIDTH - 12, 8, height - 24
    points = [p for line in lines for segment in line.segments for p in segment]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    low, high = min(ys), max(ys)
    # A scale from 0 is honest where the values come near it; far from it the shape would be lost.
    if low > 0 and low < 0.6 * high:
        low = 0.0
    y_marks = ticks(low, high, 5)
    # The right end of the axis is taken by its name.
    room = max(xs) - 0.12 * (max(xs) - min(xs))
    x_marks = [m for m in ticks(min(xs), max(xs)) if min(xs) <= m <= room] or [xs[0]]
    to_x = _scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, left, right)
    to_y = _scale(y_marks[0], y_marks[-1], bottom, top)
    out = _open(height, label)
    for band in bands:
        # A single step is still to be seen.
        x1, x2 = to_x(band.first), max(to_x(band.last), to_x(band.first) + 2)
        out.append(
            f'<rect class="band" x="{x1:.1f}" width="{x2 - x1:.1f}" y="{top}" height="{bottom - top}">'
            f"<title>{escape(band.name)}</title></rect>"
        )
    out += _level_grid(y_marks, to_y, left, right, rate)
    for mark in x_marks:
        out.append(_text("tick", to_x(mark), height - 8, f"{mark:g}"))
    out.append(_text("tick", right, height - 8, "step", "end"))
    for line in lines:
        out.append(f'<g class="{line.colour}"><title>{escape(line.name)}</title>')
        for segment in line.segments:
            path = " ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y in segment)
            if len(segment) > 1:
                out.append(f'<polyline class="line" points="{path}"/>')
            x, y = segment[-1]
            out.append(f'<circle cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" r="2.4"/>')
        out.append("</g>")
    return Markup("".join([*out, "</svg>"]))


def scatter(spots: Sequence[Spot], *, x_name: str, y_name: str, label: str) -> Markup:
    """Two rates against each other, both better upwards and to the right; the first is joined to each."""
    # Many names would lie on each other: they stand in a column of their own.
    crowded = len(spots) > _FEW_SPOTS
    width = WIDTH + (_NAMES_WIDTH if crowded else 0)
    left, right, top, height = 42, WIDTH - 16, 10, 268
    bottom = height - 42
    x_marks = _rate_marks([v for s in spots for v in s.x])
    y_marks = _rate_marks([v for s in spots for v in s.y])
    to_x = _scale(x_marks[0], x_marks[-1], left, right)
    to_y = _scale(y_marks[0], y_marks[-1], bottom, top)
    out = _open(height, label, width)
    out += _level_grid(y_marks, to_y, left, right, rate=True)
    out += _upright_grid(x_marks, to_x, top, bottom, rate=True)
    out.append(_text("axis", right, height - 8, f"{x_name} →", "end"))
    out.append(_text("axis", left + 4, top + 11, f"↑ {y_name}", "start"))
    points = [(to_x(s.x[0]), to_y(s.y[0])) for s in spots]
    if crowded:
        out += _column(spots, points, right + 16, top, bottom)
    else:
        out += [_rule(points[0][0], x, points[0][1], y, "trail") for x, y in points[1:]]
    for spot in spots:
        out += _spot(spot, to_x, to_y, None if crowded else right)
    return Markup("".join([*out, "</svg>"]))


def _rate_marks(values: list[float]) -> list[float]:
    marks = [m for m in ticks(min(values) - 0.02, max(values) + 0.02) if -1e-9 <= m <= 1 + 1e-9]
    return marks if len(marks) > 1 else [0.0, 1.0]


def _column(spots: Sequence[Spot], points: list[tuple[float, float]], x: float, top: float, bottom: float) -> list[str]:
    """Names from top to bottom as their spots are, each joined to its own."""
    order = sorted(range(len(spots)), key=lambda i: points[i][1])
    heights = [points[i][1] for i in order]
    # Down as far as the one above asks for, then up as far as the bottom does.
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + _LINE)
    lowest = bottom
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], lowest)
        lowest = heights[i] - _LINE
    out = []
    for i, y in zip(order, heights, strict=True):
        line = _rule(points[i][0], x - 4, points[i][1], y, "leader")
        out.append(f'<g class="{spots[i].colour}">{line}{_text("spot", x, y + 3.5, spots[i].name, "start")}</g>')
    return out


def _spot(spot: Spot, to_x: Scale, to_y: Scale, right: float | None) -> list[str]:
    """The dot with its whiskers; with its name, where `right` says how much room there is."""
    x, x1, x2 = map(to_x, spot.x)
    y, y1, y2 = map(to_y, spot.y)
    # The name goes where there is room for it: about 6.5 units a letter.
    room = right is not None and right - x > 6.5 * len(spot.name) + 12
    at, anchor = (x + 9, "start") if room else (x - 9, "end")
    label = f"{spot.name}: {spot.x[0] * 100:.1f}%, {spot.y[0] * 100:.1f}%"
    return [
        f'<g class="{spot.colour}">',
        _rule(x1, x2, y, y, "whisker"),
        _rule(x, x, y1, y2, "whisker"),
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>',
        "" if right is None else _text("spot", at, y - 8, spot.name, anchor),
        f"<title>{escape(label)}</title></g>",
    ]
