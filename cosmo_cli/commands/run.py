"""cosmo run.

Interrupted at any moment, the same command goes on. `--dry-run` prints the stage commands it stands for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cosmo_cli.options import (
    DryRunOption,
    ExecutorOption,
    JsonOption,
    QuietOption,
    RunCodeOption,
    SetOption,
    executor_settings,
)
from stages.core.executors.base import LOCAL


def command(
    recipe: Annotated[Path, typer.Argument(help="The recipe, e.g. examples/mini_cosmo/recipe.toml.")],
    runs: Annotated[Path | None, typer.Option("--runs", help="Where run folders go [default: runs/NAME].")] = None,
    set: SetOption = None,
    executor: ExecutorOption = LOCAL,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    run_code: RunCodeOption = False,
) -> None:
    """Go through a recipe's steps in this process, or with --dry-run print them as commands."""
    # Imported here, as all that is heavy in a command: `cosmo run --help` must not wait for it.
    from cosmo_cli.commands.eval import print_table
    from cosmo_cli.recipe.label_check import check_formulas
    from cosmo_cli.recipe.schema import parse, read
    from cosmo_cli.recipe.steps import command_line, steps_of
    from cosmo_cli.terminal.output import Output
    from stages.core.config import assign, build, parse_assignment
    from stages.core.errors import UsageError
    from stages.core.registry import load
    from stages.core.storage.location import is_url, public

    output = Output("run", json, quiet)
    values = read(recipe, run_code)
    settings, sets = executor_settings(executor, set or [])
    plugin = load("executor", executor)
    configured = build(plugin.config, settings, "executor")
    for text in sets:
        assign(values, *parse_assignment(text))
    parsed = parse(values)
    check_formulas(parsed)
    root = runs or Path("runs") / (parsed.name or "run")
    if dry_run:
        # With --set the recipe's file no longer says it all, so every setting is spelled out in the commands.
        source = recipe if not sets else None
        output.lines(command_line(s, parsed, source, root, (executor, settings)) for s in steps_of(parsed))
        return
    if is_url(root):
        raise UsageError(
            f"cosmo run keeps its models and folders on one machine, and {public(root)} is not on it",
            "run its stages one by one: cosmo run RECIPE --dry-run --runs URL prints them",
        )
    from cosmo_cli.recipe.run import run_recipe

    with plugin.shared(configured):
        summary = run_recipe(parsed, root, output, (executor, settings))
    if "metrics" in summary:
        print_table(output, Path(str(summary["metrics"])))
    if "model" in summary:
        output.say(f"model: {summary['model']}")
    output.result(str(root), summary)


COMMAND = command
