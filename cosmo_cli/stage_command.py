"""From a stage's config dataclass to its Typer command: flags come from the fields that declare one."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cosmo_cli import options as shared
from cosmo_cli.ranks import runs_on_ranks
from cosmo_cli.stage_run import run_command
from stages.core.config import assign, build, parse_assignment
from stages.core.errors import InputError
from stages.core.executors.base import LOCAL
from stages.core.stage_list import STAGES, load_config

_SHARED: dict[str, tuple[Any, Any]] = {
    "runs": (shared.RunsOption, Path("runs")),
    "name": (shared.NameOption, ""),
    "config": (shared.RecipeOption, None),
    "set": (shared.SetOption, None),
    "worker": (shared.WorkerOption, None),
    "partial": (shared.PartialOption, False),
    "dry_run": (shared.DryRunOption, False),
    "json": (shared.JsonOption, False),
    "quiet": (shared.QuietOption, False),
    "run_code": (shared.RunCodeOption, False),
}
_EXECUTOR: dict[str, tuple[Any, Any]] = {"executor": (shared.ExecutorOption, LOCAL)}


def stage_command(
    verb: str,
    *,
    after: Callable[[Any, Any, dict[str, Any]], None] | None = None,
    more: dict[str, tuple[Any, Any]] | None = None,
    instead: Callable[[Any, list[Path], dict[str, Any]], bool] | None = None,
) -> Callable[..., Any]:
    """The command function of a stage, made from its entry in the list of stages and its config's fields.

    `after(output, result, given)` may tell the person more once it is done. `more` declares options of this command
    alone, name -> (annotation, default); `instead(config, inputs, given)` may act on them, and says so by True: then
    the stage does not run.
    """
    info, config = STAGES[verb], load_config(verb)
    hints = typing.get_type_hints(config)
    flags = {f.name: f for f in dataclasses.fields(config) if f.metadata.get("flag")}
    positional = Annotated[list[str] | None, typer.Argument(help=info.argument, show_default=False)]
    parameters = [_parameter("paths", positional, None)]
    for name, field in flags.items():
        # `opt_` keeps a config's `name` apart from the `--name` that every stage has.
        parameters.append(_parameter(f"opt_{name}", _flag(field, hints[name]), None))
    shown = {**(more or {}), **_SHARED, **(_EXECUTOR if info.spread else {})}
    if not info.in_recipes:
        shown.pop("config")
    parameters += [_parameter(name, hint, default) for name, (hint, default) in shown.items()]

    def command(**given: Any) -> None:
        # None and [] mean that nothing was typed: then the recipe's value stands.
        typed = {n: v for n in flags if (v := given[f"opt_{n}"]) not in (None, [])}
        paths = given["paths"] or []
        if info.positional:
            if paths:
                typed[info.positional] = paths
            inputs = []
        else:
            inputs = [Path(p) for p in (paths or _paths_on_stdin(verb))]
        sets = given["set"] or []
        if info.spread:
            given["executor_settings"], sets = shared.executor_settings(given["executor"], sets)
        built = build(config, stage_values(verb, given.get("config"), typed, sets, given["run_code"]), verb)
        if info.upstream:
            inputs = [Path(path) for path in getattr(built, info.upstream)]
        if instead is not None and instead(built, inputs, given):
            return
        if not runs_on_ranks(verb, built, inputs, given):
            run_command(verb, built, inputs, given, after)

    # Typer reads a function's signature and annotations to make options; this one is made from the config's fields.
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _flag(field: dataclasses.Field[Any], hint: Any) -> Any:
    """A flag whose absence means: what the recipe says, else the field's default."""
    default = field.default if field.default is not dataclasses.MISSING else None
    choices = field.metadata["choices"]
    text = field.metadata["help"]
    notes = [" | ".join(str(c) for c in choices if c != "")] if choices else []
    if default not in (None, "", dataclasses.MISSING):
        notes.append(f"default {default}")
    if notes:
        # Round brackets: Rich takes square ones for markup.
        text += f" ({'; '.join(notes)})"
    # `X | None` means that a flag may be left out; Typer wants to know the X.
    inner = next((a for a in typing.get_args(hint) if a is not type(None)), hint)
    plain = list[str] if typing.get_origin(hint) is list else inner
    more: dict[str, Any] = {}
    if plain in (int, float):
        more = {"parser": _number(plain), "metavar": f"<{plain.__name__}>"}
    return Annotated[plain | None, typer.Option(field.metadata["flag"], help=text, show_default=False, **more)]


def _number(kind: type[Any]) -> Callable[[str], Any]:
    """A parser whose complaint names the value, which Typer's own does not."""

    def parse(text: Any) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not a number of type {kind.__name__}") from None

    return parse


def stage_values(
    verb: str, recipe: Path | None, typed: dict[str, Any], sets: list[str], run_code: bool = False
) -> dict[str, Any]:
    """A stage's config values: the recipe's table, then flags, then --set. `run_code`: one in a run folder may, too."""
    values: dict[str, Any] = {}
    if recipe is not None:
        from cosmo_cli.recipe.schema import stage_table

        values = stage_table(recipe, verb, run_code)
    values.update(typed)
    for text in sets:
        assign(values, *parse_assignment(text))
    return values


def _paths_on_stdin(verb: str) -> list[str]:
    # A daemon's stdin may be closed, and is None then.
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(f"cosmo {verb} was given no input", f"cosmo {verb} RUN_FOLDER, or pipe one in")
    paths = sys.stdin.read().split("\n")
    if not (paths := [p.strip() for p in paths if p.strip()]):
        raise InputError(
            "no path arrived on stdin", "the command before this one in the pipe failed; see its line above"
        )
    return paths
