"""cosmo score: beside what every stage's command does, `--explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cosmo_cli.stage_command import stage_command
from stages.score.config import ScoreConfig

ExplainOption = Annotated[
    str | None,
    typer.Option("--explain", metavar="ID", help="Only say why this prompt's completions are graded as they are."),
]


def explain(config: ScoreConfig, inputs: list[Path], given: dict[str, Any]) -> bool:
    """With --explain: one prompt's grades on stdout, from scored groups, or graded now from rollouts."""
    if given["explain"] is None:
        return False
    from cosmo_cli.terminal.output import Output, stdout_to_stderr
    from cosmo_cli.terminal.progress import progress_for
    from stages.core.runner import check_inputs
    from stages.core.runs.folder import RunFolder
    from stages.core.stage import Context, Resources
    from stages.score.explain import document, explain_lines, find_groups
    from stages.score.stage import STAGE, grader_for

    output = Output("score", given["json"], given["quiet"])
    folders = [RunFolder.open(path) for path in inputs]
    check_inputs(STAGE, folders, given["partial"])
    progress = progress_for(output)
    with stdout_to_stderr():
        groups = find_groups(
            folders, given["explain"], grader_for(config), Context(config, folders, progress, Resources())
        )
    if given["json"]:
        output.document([document(group) for group in groups] if len(groups) > 1 else document(groups[0]))
        return True
    for number, group in enumerate(groups):
        output.lines([""] if number else [])
        output.styled(explain_lines(group))
    return True


COMMAND = stage_command("score", more={"explain": (ExplainOption, None)}, instead=explain)
