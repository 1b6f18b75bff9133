"""cosmo eval: beside what every stage's command does, the table of metrics for the person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cosmo_cli.stage_command import stage_command


def print_table(output: Any, path: Path) -> None:
    """The metrics of an eval run, for the person."""
    from schemas.tables import EVALS
    from stages.core.atomic import read_json
    from stages.core.runs.folder import RunFolder, artifact
    from stages.eval.table import judge_lines, summary_table

    summary = read_json(artifact(path, "summary.json"))
    folder = RunFolder.open(path)
    rows = list(folder.rows(EVALS))
    output.table(summary_table(rows, summary["differences"]))
    for line in judge_lines(rows, folder.upstream()):
        output.say(line)
    output.say(f"report: {artifact(path, 'report.html')}")


COMMAND = stage_command("eval", after=lambda output, result: print_table(output, result.path))
