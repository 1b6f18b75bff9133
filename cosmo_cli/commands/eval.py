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
    from stages.eval.paired import paired_table
    from stages.eval.table import benchmark_lines, judge_lines, published_column, summary_table

    summary = read_json(artifact(path, "summary.json"))
    folder = RunFolder.open(path)
    rows = list(folder.rows(EVALS))
    table = summary_table(rows, summary["differences"])
    benchmarks = summary.get("benchmarks")
    output.table(published_column(table, benchmarks) if benchmarks else table)
    if "paired" in summary:
        output.table(paired_table(summary["paired"]))
    for line in benchmark_lines(benchmarks) if benchmarks else []:
        output.say(line)
    for line in judge_lines(rows, folder.upstream(), benchmarks):
        output.say(line)
    output.say(f"report: {artifact(path, 'report.html')}")


COMMAND = stage_command("eval", after=lambda output, result: print_table(output, result.path))
