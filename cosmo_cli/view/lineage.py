"""Where a run comes from and what was made of it, as a picture whose parts are links."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cosmo_cli.view.library import Entry

WIDTH, HEIGHT, GAP_X, GAP_Y = 152, 38, 34, 12
"""A run's box, and what lies between two of them."""
LEVELS = 4
"""Runs up the lineage that are drawn: a turn of a recipe, and what is before it."""
_CHILDREN, _COLUMN = 6, 8
"""Runs that were made of this one, and runs in a column, at most."""


@dataclass(frozen=True, slots=True)
class Node:
    """A run's box in the drawing."""

    entry: Entry
    x: int
    y: int
    here: bool
    """It is the run that the picture is of."""


def draw_lineage(entries: Mapping[str, Entry], entry: Entry) -> dict[str, Any]:
    """Boxes, lines between them, size, and how many further runs lie above what is drawn."""
    levels = _levels(entries, entry)
    columns: dict[int, list[Entry]] = {}
    # Levels that no run stands at, of a ring, take no room.
    places = {level: n for n, level in enumerate(sorted(set(levels.values()), reverse=True))}
    for key, level in levels.items():
        columns.setdefault(places[level], []).append(entries[key])
    # The earliest of them run stands highest.
    for column in columns.values():
        column.sort(key=lambda e: (e.date, e.key))
        del column[_COLUMN:]
    tallest = max(map(len, columns.values()))
    nodes: dict[str, Node] = {}
    for at, column in columns.items():
        top = (tallest - len(column)) * (HEIGHT + GAP_Y) // 2
        for row, one in enumerate(column):
            x, y = at * (WIDTH + GAP_X), top + row * (HEIGHT + GAP_Y)
            nodes[one.key] = Node(one, x + 1, y + 1, one.key == entry.key)
    lines = [_line(nodes[k], n) for n in nodes.values() for k in n.entry.parents if k in nodes]
    beyond = {k for n in nodes.values() for k in n.entry.parents if k in entries and k not in nodes}
    width = (max(columns) + 1) * (WIDTH + GAP_X) - GAP_X + 2
    height = tallest * (HEIGHT + GAP_Y) - GAP_Y + 2
    return {"nodes": list(nodes.values()), "lines": lines, "width": width, "height": height, "beyond": len(beyond)}


def _levels(entries: Mapping[str, Entry], entry: Entry) -> dict[str, int]:
    """By key, how far above the run each near ancestor stands, the longest way; -1 for what was made of it."""
    near, level = {entry.key: 0}, [entry.key]
    for _ in range(LEVELS):
        level = [p for k in level for p in dict.fromkeys(entries[k].parents) if p in entries and p not in near]
        near.update(dict.fromkeys(level, 0))
    # The longest way, so that every line goes from left to right. A damaged manifest may name a ring, which has none:
    # no way is longer than there are runs.
    for _ in near:
        for key in near:
            for parent in entries[key].parents:
                if parent in near and parent != entry.key:
                    near[parent] = min(max(near[parent], near[key] + 1), len(near))
    made = [e.key for e in entries.values() if entry.key in e.parents and e.key not in near]
    return near | dict.fromkeys(made[:_CHILDREN], -1)


def _line(above: Node, below: Node) -> str:
    """A curve from the right side of one box to the left side of the other."""
    x1, y1, x2, y2 = above.x + WIDTH, above.y + HEIGHT // 2, below.x, below.y + HEIGHT // 2
    middle = (x1 + x2) // 2
    return f"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"
