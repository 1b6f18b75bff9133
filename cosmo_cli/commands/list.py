"""cosmo list: every plugin by kind, also those of installed packages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from cosmo_cli.options import JsonOption


def command(
    kind: Annotated[str | None, typer.Argument(help="One kind; all when left out.", show_default=False)] = None,
    json: JsonOption = False,
) -> None:
    """Names and one-line summaries, read from the files; what installed packages offer is loaded."""
    from cosmo_cli.output import Output, stdout_to_stderr, stdout_width
    from stages.core.errors import UsageError, did_you_mean
    from stages.core.registry import KINDS, listed

    output = Output("list", json)
    if kind is not None and kind not in KINDS:
        hint = f"{did_you_mean(kind, KINDS)} kinds: {', '.join(KINDS)}"
        raise UsageError(f"unknown kind {kind!r}", hint.lstrip())
    kinds = [kind] if kind else list(KINDS)
    # Plugins of installed packages are loaded for their summaries, and may print as they are.
    with stdout_to_stderr():
        found = {k: {one.name: one.line for one in listed(k)} for k in kinds}
    if json:
        output.document(found)
        return
    output.styled(_lines(found, whole=stdout_width() is None))


def _lines(found: dict[str, dict[str, str]], whole: bool) -> Iterator[tuple[str, str, int]]:
    """Kind, name and summary: in each line where it goes to another program, else the kind as a heading."""
    longest = max((len(n) for plugins in found.values() for n in plugins), default=0)
    for kind, plugins in found.items():
        column = longest if whole else max(map(len, plugins), default=0)
        if not whole:
            yield kind, "bold", 0
        before = f"{kind:<{max(map(len, found))}}  " if whole else "  "
        for name, text in plugins.items():
            head = f"{before}{name:<{column}}  "
            yield f"{head}{text}", "", len(head)


COMMAND = command
