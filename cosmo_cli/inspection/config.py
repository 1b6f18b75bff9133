"""cosmo config.

Checks every table against its stage, with did-you-mean, and prints each value as it will be used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cosmo_cli.options import JsonOption


def command(
    recipe: Annotated[Path, typer.Argument(help="The recipe.")],
    json: JsonOption = False,
) -> None:
    """Check a recipe and print it resolved."""
    import dataclasses

    from cosmo_cli.recipe.label_check import check_formulas
    from cosmo_cli.recipe.schema import parse, read, with_shared
    from cosmo_cli.recipe.steps import toml_value
    from cosmo_cli.terminal.output import Output
    from stages.core.config import as_dict, build
    from stages.core.stage_list import load_config, recipe_verbs

    output = Output("config", json)
    parsed = parse(read(recipe))
    # Folders that settings name by who makes them are looked for in the steps, and so is what scoring would refuse.
    check_formulas(parsed)
    tables = {verb: as_dict(build(load_config(verb), with_shared(parsed, verb), verb)) for verb in recipe_verbs()}
    if json:
        output.document({**dataclasses.asdict(parsed), **tables})
        return
    output.lines(
        [
            f"name = {toml_value(parsed.name)}",
            f"seed = {parsed.seed}",
            f"policy = {toml_value(parsed.policy)}",
        ]
    )
    for verb, table in tables.items():
        output.lines(["", f"[{verb}]"])
        output.lines(f"{key} = {toml_value(value)}" for key, value in table.items() if value is not None)
    for phase in parsed.phases:
        output.lines(["", "[[phases]]"])
        output.lines(f"{k} = {toml_value(v)}" for k, v in dataclasses.asdict(phase).items() if v not in ({}, None))


COMMAND = command
