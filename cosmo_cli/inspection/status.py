"""cosmo status.

For every run folder: is it complete, and would its command still make the same? If not, which fact changed. And what it
is: its name, when it was begun, the model and the data at its beginning, and the runs it was made from, which stand
above it. With --json all of it, one object a run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cosmo_cli.options import JsonOption, RunCodeOption, RunsOption
from cosmo_cli.run_reports import RunReport
from stages.capacity.units import size
from stages.core.storage.location import is_url

WIDE = 110
"""Columns of a terminal from which on a run is one line."""
STYLES = {"complete": "", "incomplete": "yellow", "stale": "yellow", "unchecked": "yellow", "broken": "red"}


def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders, or folders of them, in place of --runs.", show_default=False),
    ] = None,
    runs: RunsOption = Path("runs"),
    json: JsonOption = False,
    run_code: RunCodeOption = False,
) -> None:
    """Say what is complete, what is missing, and what is stale and why."""
    from cosmo_cli.run_reports import reports
    from cosmo_cli.terminal.output import Output, stdout_width

    output = Output("status", json)
    found = reports(paths or [runs], run_code)
    if json:
        output.document([report.as_json() for report in found])
        return
    output.styled(table(found, stdout_width()))


def table(found: list[RunReport], width: int | None) -> list[tuple[str, str, int]]:
    """The reports as styled lines: one a run where the width allows it or is None (a pipe), else two; then reasons."""
    # Below their common folder, named once: with it in every line 80 columns would hold little else.
    folder = _common_folder(found) if width is not None else ""
    first = [("run", "state", "rows", "size", "date", "name"), *(_first(r, folder) for r in found)]
    second = [("model", "data", "from"), *(_second(r) for r in found)]
    figures = ["figures", *(r.figures or "-" for r in found)]
    wide = width is None or width >= WIDE
    one_line = [(*a, *b) for a, b in zip(first, second, strict=True)]
    if width is None:
        # A terminal has no room for them beside the rest: there they are a line of their own.
        one_line = [(*line, last) for line, last in zip(one_line, figures, strict=True)]
    heads = _aligned(one_line if wide else first, right=(2, 3))
    lines = [(f"in {folder}", "dim", 0)] if folder else []
    indent = 2
    for number, head in enumerate(heads):
        style = "bold" if number == 0 else STYLES[found[number - 1].state]
        lines.append((head, style, 2 * indent))
        if number == 0:
            continue
        if not wide and (facts := "; ".join(_named(second[0], second[number]))):
            lines.append((f"{'':{indent}}{facts}", "dim", 2 * indent))
        if width is not None and found[number - 1].figures:
            lines.append((f"{'':{indent}}{found[number - 1].figures}", "dim", 2 * indent))
        lines += [(f"{'':{indent}}{reason}", "dim", 2 * indent) for reason in found[number - 1].why]
    return lines


def _first(report: RunReport, folder: str) -> tuple[str, ...]:
    shards = "" if report.shards_done == report.shards else f" {report.shards_done}/{report.shards}"
    path = os.path.relpath(report.path, folder) if folder and not is_url(report.path) else report.path
    # `01-31 12:34` of `2026-01-31 12:34:56`; --json has it whole.
    return path, report.state + shards, f"{report.rows:,}", size(report.size), report.date[5:16], report.name or "-"


def _common_folder(found: list[RunReport]) -> str:
    if any(is_url(r.path) for r in found):
        return ""
    return os.path.relpath(os.path.commonpath([os.path.abspath(os.path.dirname(r.path)) for r in found]))


def _second(report: RunReport) -> tuple[str, ...]:
    parents = ", ".join(p.rstrip("/").rpartition("/")[2] for p in report.parents)
    return report.model or "-", ", ".join(report.data) or "-", parents or "-"


def _named(titles: tuple[str, ...], values: tuple[str, ...]) -> list[str]:
    return [f"{title} {value}" for title, value in zip(titles, values, strict=True) if value != "-"]


def _aligned(rows: list[tuple[str, ...]], right: tuple[int, ...]) -> list[str]:
    """Rows as lines with columns two spaces apart, those at `right` set to the right."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return [
        "  ".join(
            c.rjust(w) if n in right else c.ljust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


COMMAND = command
