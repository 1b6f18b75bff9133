"""What an evaluation came to: how many policies and metrics it measured, and where most completions failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.evals import NOT_JUDGED, EvalRow
from stages.core.atomic import read_json
from stages.core.runs.folder import artifact
from stages.core.stage import Quality
from stages.eval.judges import judge_hints
from stages.eval.measure import ALL
from stages.eval.table import undecided_share

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder

MOST_FAILED = 0.5
"""Share of a metric's completions above which a person is warned."""
_SHOWN = 3


def quality_of(folder: RunFolder) -> Quality:
    """Policies, metrics and prompts; a failure where no metric of any policy has a value."""
    from schemas.tables import EVALS

    rows: list[EvalRow] = [row for row in folder.rows(EVALS) if row.slice == ALL]
    measured = [row for row in rows if row.value is not None]
    policies = list(dict.fromkeys(row.policy for row in rows))
    metrics = {row.metric for row in rows}
    numbers = {
        "policies": len(policies),
        "metrics": len(metrics),
        "measured": len({row.metric for row in measured}),
        "prompts": max((row.n for row in rows), default=0),
        "failed": {f"{row.policy}: {row.metric}": row.failed for row in rows if row.failed},
    }
    if undecided := {f"{row.policy}: {row.metric}": row.undecided for row in rows if row.undecided}:
        numbers["undecided"] = undecided
    if not measured:
        hint = f"cosmo show {folder.where}"
        summary = artifact(folder.path, "summary.json")
        benchmarks = read_json(summary).get("benchmarks") if summary.exists() else None
        hint = next((command for _, command in judge_hints(rows, folder.upstream(), benchmarks)), hint)
        return Quality(numbers=numbers, failure=_nothing(rows), hint=hint)
    warnings = [
        f"nothing was measured of {policy}" for policy in policies if policy not in {row.policy for row in measured}
    ]
    warnings += _mostly_failed(rows)
    warnings += [
        f"{row.metric} of {row.policy} is not judged: {undecided_share(row)} undecided"
        for row in rows
        if row.method == NOT_JUDGED
    ]
    count = f"{len(policies)} policies" if len(policies) != 1 else "1 policy"
    line = f"{count}, {numbers['measured']} of {len(metrics)} metrics measured on {numbers['prompts']:,} prompts"
    return Quality(line, numbers, "; ".join(warnings) or None)


def _nothing(rows: list[EvalRow]) -> str:
    if refused := [row for row in rows if row.method == NOT_JUDGED]:
        return (
            f"nothing was measured: {undecided_share(refused[0])} of the verdicts of {refused[0].metric} are undecided"
        )
    failed = max((row.failed for row in rows), default=0)
    if failed:
        return f"nothing was measured: {failed} completions, or their grades, failed, and no other is there"
    return f"nothing was measured: no row is of a kind that {', '.join(sorted({row.metric for row in rows}))} looks at"


def _mostly_failed(rows: list[EvalRow]) -> list[str]:
    """A line on each metric that rests on the smaller part of its completions, as far as there is room."""
    found = [row for row in rows if row.failed > MOST_FAILED * (row.failed + row.completions)]
    lines = [
        f"{row.metric} of {row.policy} rests on {row.completions} completions: {row.failed} others failed"
        for row in found[:_SHOWN]
    ]
    return lines + ([f"{len(found) - _SHOWN} more metrics are like that"] if len(found) > _SHOWN else [])
