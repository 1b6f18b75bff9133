"""cosmo gc.

Says what can go, and removes it with --delete: what killed processes left in complete runs, and the optimizer state of
policies that training went on from. --weights adds the weights of those policies: what was sampled with them stays and
stays cached, but they can't be sampled or exported again. --abandoned DAYS adds incomplete runs that nobody touched for
so long. Rows of complete runs are never removed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cosmo_cli.options import JsonOption, RunsOption


def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders, or folders of them, in place of --runs.", show_default=False),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without, it is only listed.")] = False,
    weights: Annotated[bool, typer.Option("--weights", help="Also policies that training went on from.")] = False,
    abandoned: Annotated[
        float | None,
        typer.Option("--abandoned", help="Also incomplete runs untouched for so many days.", min=0, metavar="DAYS"),
    ] = None,
    runs: RunsOption = Path("runs"),
    json: JsonOption = False,
) -> None:
    """List what can go with its size and reason, and remove it where asked."""
    from cosmo_cli.garbage import garbage
    from cosmo_cli.terminal.output import Output
    from stages.capacity.units import size

    output = Output("gc", json)
    found = garbage(paths or [runs], weights, abandoned)
    if delete:
        for item in found:
            item.remove()
    if json:
        output.document([item.as_json() | {"removed": delete} for item in found])
        return
    output.lines([f"{size(i.bytes):>10}  {i.what:13}  {i.path}  ({i.why})" for i in found])
    total = size(sum(item.bytes for item in found))
    if not found:
        output.say("nothing can go")
    elif delete:
        output.say(f"removed: {total} in {len(found)} places")
    else:
        output.say(f"{total} in {len(found)} places can go: add --delete to remove it")


COMMAND = command
