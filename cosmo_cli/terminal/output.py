"""The only writer: stdout is for the next program, stderr is for the person."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cosmo_cli.terminal.visible import in_json, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


class ClosedPipe(Exception):
    """Whoever read our stdout is gone. (Typer turns a BrokenPipeError into exit code 1.)"""


def emit(text: str) -> None:
    """One line on stdout, at once."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise ClosedPipe from None


def emit_path(path: str) -> None:
    """A path or URL on stdout: for a program the very bytes of its name, whatever encoding the stream has."""
    raw = getattr(sys.stdout, "buffer", None)
    if raw is None or sys.stdout.isatty():
        emit(visible(path))
        return
    try:
        sys.stdout.flush()
        raw.write(os.fsencode(f"{path}\n"))
        raw.flush()
    except BrokenPipeError:
        raise ClosedPipe from None


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """While a stage runs, whatever a library prints goes to the person: stdout is for the next program."""
    sys.stdout.flush()
    # By file descriptors: libraries in C, and child processes, print past `sys.stdout`.
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def stdout_width() -> int | None:
    """Columns of the terminal that stdout is; None for a pipe or a file, where nothing is to be broken into lines."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


class Output:
    """Where a command speaks. `as_json` puts one JSON document on stdout, `quiet` leaves errors only on stderr."""

    def __init__(self, verb: str, as_json: bool = False, quiet: bool = False) -> None:
        self.verb, self.as_json, self.quiet = verb, as_json, quiet
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """Rich's console on stderr, made when it is first needed: importing Rich takes a moment."""
        if self._console is None:
            from rich.console import Console

            # Without highlighting: Rich would colour every number and path by its own taste.
            self._console = Console(stderr=True, highlight=False)
        return self._console

    def result(self, path: str, document: dict[str, Any]) -> None:
        """The outcome: the run folder's path, or the document with --json. An empty path prints nothing."""
        if self.as_json:
            self.document(document)
        elif path:
            emit_path(path)

    def document(self, document: Any) -> None:
        """One JSON document on stdout."""
        emit(in_json(json.dumps(document, indent=2, ensure_ascii=False, default=str)))

    def lines(self, lines: Iterable[str]) -> None:
        """Plain lines on stdout."""
        for line in lines:
            emit(visible(line))

    def styled(self, lines: Iterable[tuple[str, str, int]]) -> None:
        """Lines on stdout, each with its style and where its continuation starts: plain and whole for a pipe."""
        if not sys.stdout.isatty():
            self.lines(text for text, _, _ in lines)
            return
        import textwrap

        from rich.console import Console
        from rich.text import Text

        console = Console(highlight=False)
        for text, style, hang in lines:
            # A narrow terminal leaves little beside a deep continuation.
            indent = " " * min(hang, console.width // 2)
            # Names of runs and options have hyphens and are to be copied whole.
            broken = textwrap.wrap(
                visible(text), console.width, subsequent_indent=indent, replace_whitespace=False, break_on_hyphens=False
            )
            for piece in broken or [""]:
                # `soft_wrap` keeps Rich from breaking once more what is broken already.
                console.print(Text(piece, style=style), soft_wrap=True)

    def image(self, shown: str | Text) -> None:
        """An image as `drawn_image` made it, on lines of its own: nothing in it is anybody's words."""
        if isinstance(shown, str):
            emit(shown)
            return
        from rich.console import Console

        Console(highlight=False).print(shown, soft_wrap=True)

    def say(self, message: str) -> None:
        """One line for the person."""
        if not self.quiet:
            print(f"{self.verb}: {visible(message)}", file=sys.stderr, flush=True)

    def warn(self, message: str, hint: str = "") -> None:
        """A warning for the person, and what to type about it."""
        self.say(f"warning: {message}")
        if hint and not self.quiet:
            print(f"  hint: {visible(hint)}", file=sys.stderr, flush=True)

    def table(self, rows: list[list[str]], title: str = "") -> None:
        """A table for the person; the first row is the header."""
        if self.quiet:
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
        for number, name in enumerate(rows[0]):
            table.add_column(name, justify="left" if number == 0 else "right", no_wrap=number == 0)
        for row in rows[1:]:
            # As text: Rich would read square brackets of a label as its markup.
            table.add_row(*(Text(visible(cell)) for cell in row))
        self.console.print(table)

    def fits(self, rows: list[list[str]]) -> bool:
        """Whether `table` has room for every cell in one line."""
        from rich.cells import cell_len

        widest = [max(cell_len(row[n]) for row in rows) for n in range(len(rows[0]))]
        return sum(widest) + 2 * (len(widest) - 1) <= self.console.width

    def parts(self, header: list[str], parts: list[tuple[str, list[list[str]]]], gap: str) -> None:
        """Tables below each other, each with a title, whose columns stand below those of the header."""
        if self.quiet:
            return
        from rich.cells import cell_len
        from rich.text import Text

        every = [header, *(line for _, lines in parts for line in lines)]
        widest = [max(cell_len(line[n]) for line in every) for n in range(len(header))]

        def show(line: list[str], style: str = "") -> None:
            pads = [" " * (width - cell_len(cell)) for cell, width in zip(line, widest, strict=True)]
            # Names, and what is read as a sentence, begin where others do; numbers end there.
            left = (0, len(line) - 1)
            cells = [c + pad if n in left else pad + c for n, (c, pad) in enumerate(zip(line, pads, strict=True))]
            self.console.print(Text(visible(gap + gap.join(cells).rstrip()), style=style), soft_wrap=True)

        show(header, "bold")
        for title, lines in parts:
            self.console.print(Text(visible(title), style="bold"), soft_wrap=True)
            for line in lines:
                show(line)


def complain(verb: str, message: str, hint: str) -> None:
    """A failure: one line that names the value, one with a hint to type."""
    text = visible(" ".join(message.split()))
    print(f"cosmo {verb}: {text}" if verb else f"cosmo: {text}", file=sys.stderr, flush=True)
    if hint:
        print(f"  hint: {visible(hint)}", file=sys.stderr, flush=True)
