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
    from stages.eval.judges import judge_lines
    from stages.eval.paired import paired_table
    from stages.eval.table import GAP, benchmark_lines, published_column, summary_table, turned_table

    summary = read_json(artifact(path, "summary.json"))
    folder = RunFolder.open(path)
    rows = list(folder.rows(EVALS))
    table = summary_table(rows, summary["differences"])
    benchmarks = summary.get("benchmarks")
    table = published_column(table, benchmarks) if benchmarks else table
    if output.fits(table):
        output.table(table)
    else:
        turned = turned_table(rows, summary["differences"], benchmarks, output.console.width)
        for line in turned.legend:
            output.say(line)
        output.parts(turned.header, turned.parts, GAP)
        if turned.unmeasured:
            output.say(f"nothing was measured of {', '.join(turned.unmeasured)}")
    if "paired" in summary:
        output.table(paired_table(summary["paired"]))
    for line in benchmark_lines(benchmarks) if benchmarks else []:
        output.say(line)
    for line in judge_lines(rows, folder.upstream(), benchmarks):
        output.say(line)
    output.say(f"report: {artifact(path, 'report.html')}")


COMMAND = stage_command("eval", after=lambda output, result, _: print_table(output, result.path))
