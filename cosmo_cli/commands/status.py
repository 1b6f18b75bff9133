"""cosmo status.

For every run folder: is it complete, and would its command still make the same? If not, which fact changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cosmo_cli.options import JsonOption


def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders, or folders of them [default: runs].", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say what is complete, what is missing, and what is stale and why."""
    from cosmo_cli.output import Output
    from cosmo_cli.staleness import find_runs, inspect_run

    output = Output("status", json)
    reports = [inspect_run(p) for p in find_runs(paths or [Path("runs")])]
    if json:
        output.document(reports)
        return
    width = max((len(r["path"]) for r in reports), default=0)
    for report in reports:
        shards = f"{report['shards_done']}/{report['shards']} shards"
        output.lines([f"{report['path']:<{width}}  {report['state']:<10}  {shards}, {report['rows']} rows"])
        output.lines(f"{'':<{width}}    {reason}" for reason in report["why"])


COMMAND = command
