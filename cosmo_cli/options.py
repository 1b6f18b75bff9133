"""Each shared flag, once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stages.core.config import assign, parse_assignment
from stages.core.errors import UsageError
from stages.core.executors.base import LOCAL

RunsOption = Annotated[
    Path,
    typer.Option(
        "--runs",
        envvar="COSMO_RUNS",
        help="Where run folders go: a folder, or s3://BUCKET/PREFIX.",
        rich_help_panel="Run",
    ),
]
NameOption = Annotated[
    str,
    typer.Option(
        "--name",
        help="What you call the run: cosmo status shows it. Kept when the run is made; changes nothing else.",
        show_default=False,
        rich_help_panel="Run",
    ),
]
RecipeOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="A recipe; this stage's table is read.", rich_help_panel="Run"),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value: any config field, dotted; repeatable.", rich_help_panel="Run"),
]
WorkerOption = Annotated[
    str | None, typer.Option("--worker", help="i/n: do every n-th shard, from i.", rich_help_panel="Run")
]
ExecutorOption = Annotated[
    str, typer.Option("--executor", help="Who does the shards: local or ray.", rich_help_panel="Run")
]
PartialOption = Annotated[bool, typer.Option("--partial", help="Accept incomplete input.", rich_help_panel="Run")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done; write nothing.", rich_help_panel="Run")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.", rich_help_panel="Run")]
RunCodeOption = Annotated[
    bool,
    typer.Option("--run-code", help="Run code that a run folder or a recipe in one names.", rich_help_panel="Run"),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Errors only on stderr.", rich_help_panel="Run")]


def executor_settings(executor: str, sets: list[str]) -> tuple[dict[str, Any], list[str]]:
    """What --set says of the executor, as its config's values, and the rest, which is the stage's."""
    values: dict[str, Any] = {}
    rest = []
    for text in sets:
        if not text.lstrip().startswith("executor."):
            rest.append(text)
            continue
        if executor == LOCAL:
            raise UsageError(f"--set {text}: the executor {LOCAL} has no settings", "add --executor ray")
        path, value = parse_assignment(text)
        assign(values, path[1:], value)
    return values, rest


def run_name(text: str) -> str:
    """The name as it was typed; UsageError for one that would break a line of `cosmo status`."""
    if not text.isprintable():
        raise UsageError(f"--name {text!r} holds characters that can't be shown", "--name my-run")
    return text


def worker(text: str | None) -> tuple[int, int]:
    """`i/n` as numbers, 0 <= i < n; UsageError otherwise."""
    if text is None:
        return 0, 1
    first, sep, second = text.partition("/")
    if not (sep and first.isdigit() and second.isdigit() and int(first) < int(second)):
        raise UsageError(f"--worker {text!r} is not i/n with 0 <= i < n", "for three machines: 0/3, 1/3, 2/3")
    return int(first), int(second)
