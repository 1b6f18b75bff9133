"""cosmo eval.

Several scored folders of different policies are put side by side.
"""

from __future__ import annotations

from typing import Any

from cosmo_cli.stage_command import stage_command
from stages.eval.config import EvalConfig


def print_table(output: Any, result: Any) -> None:
    """The metrics, for the person."""
    from schemas.tables import EVALS
    from stages.core.folder import RunFolder
    from stages.eval.table import summary_table

    output.table(summary_table(list(RunFolder.open(result.path).rows(EVALS))))
    output.say(f"report: {result.path / 'report.html'}")


COMMAND = stage_command(
    "eval",
    EvalConfig,
    argument="Run folders with scored groups; else paths on stdin.",
    after=print_table,
)
