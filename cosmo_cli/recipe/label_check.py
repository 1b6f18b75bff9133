"""What `score` would refuse, said before rollouts are paid for: formulas that can't be, labels that have none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosmo_cli.recipe.schema import Recipe, parse, read, with_shared
from cosmo_cli.recipe.steps import steps_of
from cosmo_cli.recipe.tables import Ref, overridden
from cosmo_cli.terminal.output import Output
from schemas.tables import PROMPTS
from stages.core.config import build, path_part
from stages.core.runs.folder import RunFolder
from stages.core.stage_list import load_config


def check_formulas(recipe: Recipe) -> None:
    """UsageError for a step whose reward formulas can't be: one without terms, or with a verifier that is none."""
    from stages.score.rewards import resolve

    table, seen = with_shared(recipe, "score"), set[str]()
    for step in steps_of(recipe):
        if step.verb == "score":
            values = overridden({} if step.alone else table, {k: v for k, v in step.overrides.items() if _is_known(v)})
            # Every turn of a phase has the same.
            if (spelled := json.dumps(values, sort_keys=True)) not in seen:
                seen.add(spelled)
                resolve(build(load_config("score"), values, "score"))


def _is_known(value: Any) -> bool:
    """Whether a setting stands in the recipe, and is no run that a step before it makes."""
    return not isinstance(value, Ref) and not (isinstance(value, list) and any(isinstance(v, Ref) for v in value))


def warn_where_known(given: dict[str, Any], runs: Sequence[Path | str], output: Output) -> None:
    """The warning for a command that was given a recipe."""
    if given.get("config") is None or given["dry_run"]:
        return
    recipe = parse(read(given["config"], given["run_code"]))
    for run in runs:
        warn_of_labels(recipe, run, output)


def warn_of_labels(recipe: Recipe, run: Path | str, output: Output) -> None:
    """A warning where rows of a run have a label that no reward formula of the recipe covers."""
    from stages.score.rewards import resolve

    folder = RunFolder.open(run)
    # Corpora and pairs are paid for by nobody.
    if folder.table != PROMPTS.name or not folder.files.indices():
        return
    known = {*resolve(build(load_config("score"), with_shared(recipe, "score"), "score"))}
    for table in (recipe.evaluate.score, *(phase.score for phase in recipe.phases)):
        known |= {*table.get("rewards", {})}
    labels = {str(label) for label in folder.columns(["label"])["label"].unique().to_pylist()}
    if unpaid := sorted(labels - known):
        others = f" (and those of {', '.join(unpaid[1:])})" if unpaid[1:] else ""
        output.warn(
            f"no reward formula for the label {unpaid[0]!r}: cosmo score will refuse its rows{others}",
            f"[score.rewards.{path_part(unpaid[0])}] terms = {{ answer = 1.0 }}; or leave it out by labels = {{ ... }}",
        )
