"""cosmo list: every plugin by kind, also those of installed packages, and the public benchmarks."""

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
    from cosmo_cli.terminal.output import Output, stdout_to_stderr, stdout_width
    from stages.core.errors import UsageError, did_you_mean
    from stages.core.registry import KINDS, listed, members

    output = Output("list", json)
    known = [*KINDS, _BENCHMARK]
    if kind is not None and kind not in known:
        hint = f"{did_you_mean(kind, known)} kinds: {', '.join(known)}"
        raise UsageError(f"unknown kind {kind!r}", hint.lstrip())
    kinds = [kind] if kind else known
    # Plugins of installed packages are loaded for their summaries, and may print as they are.
    with stdout_to_stderr():
        # Of a kind whose plugins are families, what is in them is too much among all others.
        look = listed if kind is None else members
        found = {k: {one.name: one.line for one in look(k)} for k in kinds if k != _BENCHMARK}
    if _BENCHMARK in kinds:
        # Alone they are listed with all that a person needs to get them; among the plugins a line each is enough.
        found[_BENCHMARK] = _benchmarks(whole=kind is not None)
    if json:
        output.document(found)
        return
    output.styled(_lines(found, whole=stdout_width() is None))


_BENCHMARK = "benchmark"


def _benchmarks(whole: bool) -> dict[str, str]:
    """What each benchmark asks; and, where they are all that is asked for, in which packs it is and how to get it."""
    from stages.benchmarks.catalogue import benchmark, names

    found = {}
    for name in names():
        one = benchmark(name)
        parts = [f"{one.title}: {one.about}"]
        if whole:
            parts += [
                f"packs: {', '.join(one.packs)}",
                f"licence: {one.licence or 'not stated'}",
                f"to get it: {one.get}",
            ]
            parts += ["may be trained on"] if one.may_train else ["never trained on"]
            parts += [f"read from: {one.seen}"]
        found[name] = "; ".join(parts)
    return found


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
