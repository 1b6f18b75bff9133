"""Progress of a stage, as suits where stderr goes: nothing, a line now and then, or a live bar."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from cosmo_cli.terminal.output import Output
from cosmo_cli.terminal.visible import visible

if TYPE_CHECKING:
    from rich.progress import Progress as RichBar


def progress_for(output: Output) -> PlainProgress | RichProgress | QuietProgress:
    """A progress display that suits where stderr goes."""
    if output.quiet:
        return QuietProgress(output)
    # A dumb terminal, Emacs' shell for one, can't go back up a line: each move of a bar would be a line of its own.
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return RichProgress(output)
    return PlainProgress(output)


class QuietProgress:
    """Says nothing while it runs."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def start(self, what: str, total: int | None, unit: str) -> None:
        """Nothing is shown while it runs."""

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        """Nothing is shown while it runs."""

    def log(self, message: str) -> None:
        """Nothing is shown while it runs."""

    def close(self) -> None:
        """There is nothing to take away."""


class PlainProgress:
    """A plain line now and then: for logs, pipes and CI."""

    every = 10.0

    def __init__(self, output: Output) -> None:
        self._output = output
        self._asked: tuple[str, int | None, str] | None = None
        self._what, self._unit, self._total, self._done = "", "", 0, 0
        self._begun = self._last_line = time.monotonic()

    def start(self, what: str, total: int | None, unit: str) -> None:
        """Begin to count; the first line comes after `every` seconds."""
        if self._asked == (what, total, unit):
            return
        self._asked = what, total, unit
        self._what, self._unit, self._total, self._done = what, unit, total or 0, 0
        self._begun = self._last_line = time.monotonic()

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        """Count, and say so if the last line is a while ago."""
        self._done += n
        now = time.monotonic()
        if now - self._last_line >= self.every:
            self._last_line = now
            of = f"/{self._total}" if self._total else ""
            rate = f", {self._done / max(now - self._begun, 1e-9):.3g}/s" if self._done else ""
            self._output.say(f"{self._what} {self._done}{of} {self._unit}{rate}{spell(numbers)}")

    def log(self, message: str) -> None:
        """A line of its own, at once."""
        self._output.say(message)

    def close(self) -> None:
        """There is nothing to take away."""


class RichProgress:
    """A live bar on a terminal."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._bar: RichBar | None = None
        self._asked: tuple[str, int | None, str] | None = None
        self._task: Any = None

    def start(self, what: str, total: int | None, unit: str) -> None:
        """Show a new bar in place of the old one."""
        if self._bar is not None and self._asked == (what, total, unit):
            return
        self._asked = what, total, unit
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.close()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[numbers]}"),
            console=self._output.console,
            # Taken away at the end: the closing line says what came of it.
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(what, total=total, numbers="")

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        """Move the bar, and put the numbers beside it."""
        if self._bar is not None:
            self._bar.update(self._task, advance=n)
            if numbers:
                self._bar.update(self._task, numbers=spell(numbers).lstrip(", "))

    def log(self, message: str) -> None:
        """A line above the bar."""
        # Messages hold square brackets (`[score.rewards.x]`), which Rich would take for styles.
        self._output.console.print(f"{self._output.verb}: {visible(message)}", markup=False)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def spell(numbers: dict[str, float | str]) -> str:
    """`, loss 0.123, reward 0.5` for a progress line."""
    spelled = (f"{k} {v:.4g}" if isinstance(v, float | int) else f"{k} {v}" for k, v in numbers.items())
    return visible("".join(f", {s}" for s in spelled))
