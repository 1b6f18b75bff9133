"""What the scripts share: sides that take turns, medians, ratios taken round by round, and printed tables."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Rounds = dict[str, list[float]]


def in_turn(sides: dict[str, Callable[[], float]], rounds: int) -> Rounds:
    """Each side's figure of every round. One after the other within a round: a busy moment hits all of them."""
    found: Rounds = {name: [] for name in sides}
    for _ in range(rounds):
        for name, once in sides.items():
            found[name].append(once())
    return found


def seconds(once: Callable[[], Any]) -> Callable[[], float]:
    """The same call, giving how long it took."""

    def timed() -> float:
        begun = time.perf_counter()
        once()
        return time.perf_counter() - begun

    return timed


def medians(rounds: Rounds, digits: int = 5) -> dict[str, float]:
    """Each side's median."""
    return {name: round(statistics.median(values), digits) for name, values in rounds.items()}


def ratio(rounds: Rounds, top: str, bottom: str) -> float:
    """Median over the rounds of one side's figure over the other's of the same round."""
    pairs = zip(rounds[top], rounds[bottom], strict=True)
    return round(statistics.median(a / b for a, b in pairs), 3)


def table(rows: Iterable[Iterable[Any]]) -> str:
    """Columns as wide as they need to be; the first row is the header, the first column is text."""
    cells = [[_shown(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        first, *rest = (c.ljust(w) if n == 0 else c.rjust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True)))
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def in_process(script: str, *words: str) -> Any:
    """What a bench script comes to in a process of its own: it prints JSON in its last line."""
    command = [sys.executable, script, *words]
    done = subprocess.run(command, cwd=Path(script).parents[1], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
