"""`cosmo`: the command table and the entry point. A command's module loads when it is called, not before."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

STAGES = "Stages"
HELPERS = "Helpers"
COMMANDS: dict[str, tuple[str, str]] = {
    "prepare": (STAGES, "Datasets to prompts: load, check, mix, de-duplicate, augment."),
    "rollout": (STAGES, "Prompts to groups: G sampled completions a prompt."),
    "score": (STAGES, "Groups to scored groups: every verifier's grade and the reward."),
    "train": (STAGES, "Prompts or scored groups to a policy: SFT, CPGD, GRPO, verifiers."),
    "eval": (STAGES, "Scored groups to metrics with intervals, and a report."),
    "export": (STAGES, "A policy to a model folder with a card, verified by reloading."),
    "run": (STAGES, "All of it from one recipe, kept warm in one process."),
    "status": (HELPERS, "Which runs are complete, cached or stale, and why."),
    "show": (HELPERS, "Rows of any run or shard, images named with their size."),
    "list": (HELPERS, "Plugins by kind: datasets, engines, verifiers, losses, metrics, ..."),
    "config": (HELPERS, "Check a recipe and print it resolved."),
}


class LazyGroup(TyperGroup):
    """Lists commands by name and summary; imports one only when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the chain."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stand-in with the summary; `resolve_command` loads the real one."""
        if cmd_name not in COMMANDS:
            return None
        panel, summary = COMMANDS[cmd_name]
        return TyperCommand(cmd_name, help=summary, rich_help_panel=panel, callback=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The real command for what was typed; typos get a suggestion."""
        if args and args[0] in COMMANDS:
            return args[0], load_command(args[0]), args[1:]
        # Names for did-you-mean.
        self.commands = {name: self.get_command(ctx, name) for name in COMMANDS}
        return super().resolve_command(ctx, args)


def load_command(name: str) -> Any:
    """The full Typer command of a verb."""
    module = importlib.import_module(f"cosmo_cli.commands.{name}")
    panel, summary = COMMANDS[name]
    single = typer.Typer(add_completion=False, rich_markup_mode="rich")
    detail = (module.__doc__ or "").partition("\n\n")[2]
    single.command(name, help=f"{summary}\n\n{detail}", rich_help_panel=panel)(module.COMMAND)
    return typer.main.get_command(single)


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=True, rich_markup_mode="rich")


def print_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
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

    Six stages meet only in typed Parquet: prepare, rollout, score, train, eval, export.
    """


def shadowed() -> str | None:
    """The foreign package that hides one of ours, if any: `stages` and `schemas` are general names."""
    import importlib.util
    from pathlib import Path

    home = Path(__file__).resolve().parents[1]
    for name in ("stages", "schemas"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or Path(spec.origin).resolve().parents[1] != home:
            return f"another package called {name!r} shadows cosmo's ({spec.origin if spec else 'not found'})"
    return None


def main(args: list[str] | None = None) -> int:
    """Run the command line; the exit code, never a traceback unless COSMO_DEBUG is set."""
    if (conflict := shadowed()) is not None:
        print(f"cosmo: {conflict}\n  hint: install cosmo in an environment of its own", file=sys.stderr)
        return 4
    from cosmo_cli.process import settle

    settle()
    arguments = sys.argv[1:] if args is None else args
    verb = next((a for a in arguments if a in COMMANDS), "")
    return guarded(verb, lambda: app(arguments, standalone_mode=False, prog_name="cosmo"))


def guarded(verb: str, call: Callable[[], Any]) -> int:
    """The exit code of a call that may fail; what went wrong is one line and a hint."""
    from cosmo_cli.errors import CLOSED_PIPE, INTERRUPTED, debugging, explain
    from cosmo_cli.output import complain

    try:
        code = call()
        if code == INTERRUPTED:  # what Typer makes of a KeyboardInterrupt
            raise KeyboardInterrupt
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        message, hint, status = explain(error, verb)
        if status == CLOSED_PIPE:
            # The reader is gone; Python would complain again when it flushes stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return status
        if debugging():
            raise
        from cosmo_cli.rank_output import wait_to_speak

        if wait_to_speak(error):
            complain(verb, message, hint)
        return status


def entry() -> None:
    """Console script."""
    code = main()
    if "RANK" in os.environ:
        from cosmo_cli.rank_output import end

        end(code)
    sys.exit(code)
