"""From a stage's config dataclass to its Typer command: flags come from the fields that declare one."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cosmo_cli import options as shared
from stages.core.config import assign, build, parse_assignment
from stages.core.errors import InputError
from stages.core.executors.base import LOCAL

_SHARED: dict[str, tuple[Any, Any]] = {
    "runs": (shared.RunsOption, Path("runs")),
    "config": (shared.RecipeOption, None),
    "set": (shared.SetOption, None),
    "worker": (shared.WorkerOption, None),
    "partial": (shared.PartialOption, False),
    "dry_run": (shared.DryRunOption, False),
    "json": (shared.JsonOption, False),
    "quiet": (shared.QuietOption, False),
}
_EXECUTOR: dict[str, tuple[Any, Any]] = {"executor": (shared.ExecutorOption, LOCAL)}


def stage_command(
    verb: str,
    config: type[Any],
    *,
    argument: str,
    positional: str = "",
    after: Callable[[Any, Any], None] | None = None,
    more: dict[str, tuple[Any, Any]] | None = None,
    instead: Callable[[Any, list[Path], dict[str, Any]], bool] | None = None,
) -> Callable[..., Any]:
    """The command function of a stage.

    `argument` is the help of the positional paths. With `positional` they fill that config field instead of
    naming upstream runs. `after(output, result)` may tell the person more once it is done. `more` declares options
    of this command alone, name -> (annotation, default); `instead(config, inputs, given)` may act on them, and says
    so by True: then the stage does not run.
    """
    hints = typing.get_type_hints(config)
    flags = {f.name: f for f in dataclasses.fields(config) if f.metadata.get("flag")}
    parameters = [
        _parameter("paths", Annotated[list[str] | None, typer.Argument(help=argument, show_default=False)], None)
    ]
    for name, field in flags.items():
        parameters.append(_parameter(f"opt_{name}", _flag(field, hints[name]), None))
    shown = {**(more or {}), **_SHARED, **(_EXECUTOR if verb in shared.SPREAD else {})}
    parameters += [_parameter(name, hint, default) for name, (hint, default) in shown.items()]

    def command(**given: Any) -> None:
        typed = {n: v for n in flags if (v := given[f"opt_{n}"]) not in (None, [])}
        paths = given["paths"] or []
        if positional:
            if paths:
                typed[positional] = paths
            inputs = []
        else:
            inputs = [Path(p) for p in (paths or _paths_on_stdin(verb))]
        sets = given["set"] or []
        if verb in shared.SPREAD:
            given["executor_settings"], sets = shared.executor_settings(given["executor"], sets)
        values = stage_values(verb, given["config"], typed, sets)
        built = build(config, values, verb)
        if instead is None or not instead(built, inputs, given):
            run_command(verb, built, inputs, given, after)

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


def stage_values(verb: str, recipe: Path | None, typed: dict[str, Any], sets: list[str]) -> dict[str, Any]:
    """A stage's config values: the recipe's table, then flags, then --set."""
    values: dict[str, Any] = {}
    if recipe is not None:
        from cosmo_cli.recipe.schema import stage_table

        values = stage_table(recipe, verb)
    values.update(typed)
    for text in sets:
        assign(values, *parse_assignment(text))
    return values


def _paths_on_stdin(verb: str) -> list[str]:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(f"cosmo {verb} was given no input", f"cosmo {verb} RUN_FOLDER, or pipe one in")
    paths = sys.stdin.read().split("\n")
    if not (paths := [p.strip() for p in paths if p.strip()]):
        raise InputError(
            "no path arrived on stdin", "the command before this one in the pipe failed; see its line above"
        )
    return paths


def load_stage(verb: str) -> Any:
    """The stage object of a verb."""
    return importlib.import_module(f"stages.{verb}.stage").STAGE


def options_of(given: dict[str, Any], output: Any) -> Any:
    """The runner's options as they were given; `output` says what was found beside them."""
    from stages.core.runner import Options

    return Options(
        runs=given["runs"],
        worker=_worker(output, given),
        partial=given["partial"],
        dry_run=given["dry_run"],
        executor=given.get("executor", LOCAL),
        executor_settings=given.get("executor_settings", {}),
    )


def run_command(
    verb: str,
    config: Any,
    inputs: list[Path],
    given: dict[str, Any],
    after: Callable[[Any, Any], None] | None,
) -> None:
    """Run a stage as a command: progress to stderr, the folder or the document to stdout."""
    from cosmo_cli.output import Output, stdout_to_stderr
    from stages.core.runner import result_json, run_stage
    from stages.core.storage.location import public

    output = Output(verb, given["json"], given["quiet"])
    options = options_of(given, output)
    progress = output.progress()
    try:
        with stdout_to_stderr():
            result = run_stage(load_stage(verb), config, inputs, options=options, progress=progress)
    finally:
        progress.close()
    output.say(describe(result))
    if after is not None and result.state in ("done", "cached"):
        after(output, result)
    output.result(public(result.path) if result.state in ("done", "cached") else "", result_json(result))


def _worker(output: Any, given: dict[str, Any]) -> tuple[int, int]:
    """The part that was typed; else, where the shards may be spread, this task's part of a Slurm array."""
    if given["worker"] is None and "executor" in given:
        from cosmo_cli.slurm import array_worker

        if (part := array_worker(os.environ)) is not None:
            output.say(f"a task of a Slurm array: --worker {part[0]}/{part[1]} (--worker 0/1 does every shard)")
            return part
    return shared.worker(given["worker"])


def describe(result: Any) -> str:
    """One line of what came of a run."""
    from stages.core.storage.location import public

    if result.state == "planned":
        todo = result.shards - result.shards_done
        return f"would do {todo} of {result.shards} shards in {public(result.path)}"
    rejected = ", ".join(f"{n} {reason}" for reason, n in sorted(result.rejected.items()))
    left_out = f", rejected {rejected}" if rejected else ""
    if result.state == "waiting":
        missing = result.shards - result.shards_done
        return f"{public(result.path)}: {missing} of {result.shards} shards are left to other workers"
    took = "cached" if result.state == "cached" else f"{result.seconds:.1f} s"
    return f"{result.rows} rows in {result.shards} shards{left_out} ({took})"
