"""cosmo plan: does a recipe fit a machine, what does each step take of it, and what to change where it does not fit?

Reads the model's config and no weights, builds it without any memory to count its parameters, and adds up weights,
gradients, moments, activations, logits, keys and values, images and files by the recipe's own settings. Nothing is run.
Exit 4 where the recipe does not fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cosmo_cli.options import ExecutorOption, JsonOption, RunCodeOption, SetOption, executor_settings
from stages.capacity.units import PROMPT_TOKENS
from stages.core.executors.base import LOCAL


def command(
    recipe: Annotated[Path, typer.Argument(help="The recipe, e.g. examples/cosmo_r1/recipe.toml.")],
    machine: Annotated[str, typer.Option("--machine", help="8xh100, 4xa100, h200, ...; left out: this one.")] = "",
    gpus: Annotated[int | None, typer.Option("--gpus", min=0, help="How many GPUs it has.")] = None,
    gpu_memory: Annotated[float | None, typer.Option("--gpu-memory", min=0, help="GiB of each GPU.")] = None,
    host_memory: Annotated[float | None, typer.Option("--host-memory", min=0, help="GiB of its own memory.")] = None,
    disk: Annotated[float | None, typer.Option("--disk", min=0, help="GiB free for run folders.")] = None,
    prompt_tokens: Annotated[
        int, typer.Option("--prompt-tokens", min=1, help="The longest prompt, its images with it.")
    ] = PROMPT_TOKENS,
    runs: Annotated[Path | None, typer.Option("--runs", help="Where run folders will go, for the disk.")] = None,
    set: SetOption = None,
    executor: ExecutorOption = LOCAL,
    json: JsonOption = False,
    run_code: RunCodeOption = False,
) -> None:
    """Print the table; UnavailableError where the recipe does not fit the machine."""
    from cosmo_cli.recipe.planning.demands import Question
    from cosmo_cli.recipe.planning.plan import HEADER, as_json, config_folder, headline, plan_recipe, table
    from cosmo_cli.recipe.schema import parse, read
    from cosmo_cli.terminal.output import Output, stdout_to_stderr
    from stages.capacity.machine import described
    from stages.capacity.shape import read_shape
    from stages.core.config import assign, parse_assignment
    from stages.core.errors import UnavailableError

    output = Output("plan", json)
    values = read(recipe, run_code)
    _, sets = executor_settings(executor, set or [])
    for text in sets:
        assign(values, *parse_assignment(text))
    parsed = parse(values)
    root = runs or Path("runs") / (parsed.name or "run")
    flags: dict[str, Any] = {"gpus": gpus, "gpu_gib": gpu_memory, "host_gib": host_memory, "disk_gib": disk}
    asked = described(machine, root, **flags)
    with stdout_to_stderr():
        shape = read_shape(config_folder(parsed.policy), bool(parsed.table("train").get("trust_remote_code")))
    question = Question(parsed, asked, shape, prompt_tokens, executor)
    plan = plan_recipe(question)
    if json:
        output.document(as_json(plan))
    else:
        output.say(headline(parsed, question))
        output.parts(HEADER, table(plan), gap="  ")
        for note in plan.notes:
            output.say(note)
    if problems := plan.problems:
        if not json:
            for problem in problems[1:]:
                output.warn(problem.text, problem.hint)
        raise UnavailableError(f"it does not fit: {problems[0].text}", problems[0].hint)
    if not json:
        output.say("it fits")


COMMAND = command
