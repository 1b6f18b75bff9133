"""A tiny trained-looking lineage on disk: prompts, an SFT run with a policy, an eval run."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.evals import EvalRow
from schemas.steps import StepRow
from schemas.tables import EVALS, PROMPTS, STEPS, Table
from stages.core.config import option
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Plan, ShardWriter, Stage, Work
from tests.support.toy import toy_row


@dataclass(frozen=True)
class MadeConfig:
    """What a stage might have been told."""

    policy: str = option("", "Start policy")
    objective: str = option("sft", "What was minimised")
    draw: int = option(0, "Which slice")
    note: str = option("", "Anything")


@dataclass
class MadeStage(Stage):
    """Writes given rows, and a policy folder or a summary beside them."""

    name: str
    table: Table
    rows: list[Any]
    policy: Path | None = None
    summary: dict[str, Any] | None = None
    reads: tuple[Table, ...] = ()
    version: int = 1
    config: Any = field(default=MadeConfig)

    def plan(self, ctx: Context) -> Plan:
        return Plan([{}], {"rows": [repr(r) for r in self.rows]})

    def open(self, ctx: Context) -> Work:
        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            for row in self.rows:
                writer.row(row)
            if self.policy is not None:
                shutil.copytree(self.policy, writer.artifact("policy"), dirs_exist_ok=True)
            if self.summary is not None:
                writer.artifact("summary.json").write_text(json.dumps(self.summary))

        return work


def step_row(n: int) -> StepRow:
    return StepRow(
        objective="sft",
        step=n,
        rollout=0,
        update=0,
        loss=1.0,
        learning_rate=1e-5,
        tokens=9,
        groups=3,
        seconds=0.1,
    )


def train_run(runs: Path, policy: Path, *, start: str = "tiny:qwen2_5_vl", **config: Any) -> RunFolder:
    """prepare -> train, the train run holding a copy of that policy folder."""
    rows = [toy_row(0, n) for n in range(3)]
    prompts = run_stage(
        MadeStage("prepare", PROMPTS, rows),
        MadeConfig(),
        [],
        options=Options(runs=runs),
    )
    stage = MadeStage("train", STEPS, [step_row(1), step_row(2)], policy=policy, reads=(PROMPTS,))
    result = run_stage(stage, MadeConfig(policy=start, **config), [prompts.path], options=Options(runs=runs))
    return RunFolder.open(result.path)


def eval_row(policy: str, policy_id: str, metric: str, value: float | None, **fields: Any) -> EvalRow:
    values: dict[str, Any] = {
        "slice": "all",
        "low": value and value - 0.05,
        "high": value and value + 0.05,
        "n": 0 if value is None else 300,
        "completions": 300,
        "failed": 0,
        "better": "higher",
        "method": "wilson",
    }
    return EvalRow(policy=policy, policy_id=policy_id, metric=metric, value=value, **{**values, **fields})


def eval_run(runs: Path, policy_id: str) -> RunFolder:
    """An eval run that measured `start` and this policy."""
    rows = [
        eval_row("start", "0" * 16, "capability", 0.4),
        eval_row("start", "0" * 16, "unsafe_compliance", 0.5),
        eval_row("final|*x*", policy_id, "capability", 0.55),
        eval_row("final|*x*", policy_id, "unsafe_compliance", 0.125, n=280),
        eval_row("final|*x*", policy_id, "instruction", None),
        eval_row("final|*x*", policy_id, "capability", 0.99, slice="label=general"),
    ]
    change = {
        "value": 0.15,
        "low": 0.05,
        "high": 0.25,
        "n": 300,
        "method": "bonett_price",
        "verdict": "better",
    }
    summary = {"differences": {"final|*x*": {"against": "start", "metrics": {"capability": change}}}}
    result = run_stage(MadeStage("eval", EVALS, rows, summary=summary), MadeConfig(), [], options=Options(runs=runs))
    return RunFolder.open(result.path)
