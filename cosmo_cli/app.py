"""`cosmo`: the command table and the entry point. A command's module loads when it is called, not before."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from functools import cache
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

STAGE_PANEL, HELPER_PANEL = "Stages", "Helpers"


@cache
def commands() -> dict[str, tuple[str, str]]:
    """Every command by name: its panel in the help, and its summary."""
    # Not at the top: where another package is called `stages`, `main` says so, and this import is what would fail.
    from stages.core.stage_list import STAGES

    return {
        **{verb: (STAGE_PANEL, info.summary) for verb, info in STAGES.items()},
        "run": (STAGE_PANEL, "All of it from one recipe, kept warm in one process."),
        "status": (HELPER_PANEL, "Which runs are complete, cached or stale, and why."),
        "show": (HELPER_PANEL, "Rows of any run or shard, images named with their size."),
        "view": (HELPER_PANEL, "Every row of any run in a browser, with filters and curves, while it goes on."),
        "list": (HELPER_PANEL, "Plugins by kind: datasets, engines, verifiers, losses, metrics, ..."),
        "check": (HELPER_PANEL, "Whether a model's numbers are its own: rollout and training against its own code."),
        "plan": (HELPER_PANEL, "Whether a recipe fits a machine: memory, disk and the settings to change."),
        "gc": (HELPER_PANEL, "What of old runs can go, by size and reason; removes it when told."),
        "config": (HELPER_PANEL, "Check a recipe and print it resolved."),
    }


class LazyGroup(TyperGroup):
    """Lists commands by name and summary; imports one only when it is called.

    Typer's own group holds finished commands: all of their modules, and torch with some, would load for `--help`.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the chain."""
        return list(commands())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stand-in with the summary; `resolve_command` loads the real one."""
        if cmd_name not in commands():
            return None
        panel, summary = commands()[cmd_name]
        # Never called: `resolve_command` puts the real command in its place, and the help needs its name and summary
        # alone.
        return TyperCommand(cmd_name, help=summary, rich_help_panel=panel, callback=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The real command for what was typed; typos get a suggestion."""
        if args and args[0] in commands():
            return args[0], load_command(args[0]), args[1:]
        # Names for did-you-mean.
        self.commands = {name: self.get_command(ctx, name) for name in commands()}
        return super().resolve_command(ctx, args)


def load_command(name: str) -> Any:
    """The full Typer command of a verb: its module in `commands` or `inspection`, or what the list of stages makes."""
    from stages.core.stage_list import STAGES

    panel, summary = commands()[name]
    detail = ""
    # A stage needs a module of its own only where its command does more than every stage's.
    folder = "inspection" if panel == HELPER_PANEL else "commands"
    if importlib.util.find_spec(module_name := f"cosmo_cli.{folder}.{name}") is not None:
        module = importlib.import_module(module_name)
        function, detail = module.COMMAND, (module.__doc__ or "").partition("\n\n")[2]
    else:
        from cosmo_cli.stage_command import stage_command

        function = stage_command(name)
    if name in STAGES:
        detail = STAGES[name].detail
    # An app for one command: Typer makes a command of a function only inside an app.
    single = typer.Typer(add_completion=False, rich_markup_mode="rich")
    single.command(name, help=f"{summary}\n\n{detail}", rich_help_panel=panel)(function)
    return typer.main.get_command(single)


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=True, rich_markup_mode="rich")


def print_version(asked: bool) -> None:
    """Print the version and stop."""
    if asked:
        from importlib.metadata import version

        print(f"cosmo {version('cosmo-rl')}")
        raise typer.Exit()


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=print_version
    ),
) -> None:
    """Post-train vision-language models for safety and capability at once.

    Stages that meet only in typed Parquet, one command each; `cosmo run` goes through them all.
    """


def shadowed() -> str | None:
    """The foreign package that hides one of ours, if any: `stages` and `schemas` are general names."""
    from pathlib import Path

    home = Path(__file__).resolve().parents[1]
    for name in ("stages", "schemas"):
        spec = importlib.util.find_spec(name)
        # A namespace package, a folder without `__init__.py`, has no origin, and is none of ours.
        if spec is None or spec.origin is None or Path(spec.origin).resolve().parents[1] != home:
            return f"another package called {name!r} shadows cosmo's ({spec.origin if spec else 'not found'})"
    return None


def main(args: list[str] | None = None) -> int:
    """Run the command line; the exit code, never a traceback unless COSMO_DEBUG is set."""
    if (conflict := shadowed()) is not None:
        print(f"cosmo: {conflict}\n  hint: install cosmo in an environment of its own", file=sys.stderr)
        return 4
    from cosmo_cli.errors import guarded
    from cosmo_cli.process import set_up_process

    set_up_process()
    # Typer ends in an empty usage error where nothing was typed and it may not exit by itself.
    arguments = (sys.argv[1:] if args is None else args) or ["--help"]
    verb = next((a for a in arguments if a in commands()), "")
    # Left to itself Click prints usage errors and exits; here every failure is one line and a hint, told in one place.
    return guarded(verb, lambda: app(arguments, standalone_mode=False, prog_name="cosmo"))


def entry() -> None:
    """The console script `cosmo`: run what was typed and end the process with its exit code."""
    from cosmo_cli.process import open_streams

    open_streams()
    code = main()
    # torchrun sets it for each process it starts.
    if "RANK" in os.environ:
        from cosmo_cli.rank_output import end_process

        end_process(code)
    sys.exit(code)
