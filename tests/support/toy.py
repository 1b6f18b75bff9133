"""A stage small enough to reason about: writes prompt rows, slowly, shard by shard."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from schemas.rejected import RejectedRow
from schemas.tables import PROMPTS
from schemas.values import text_message
from stages.core.config import option
from stages.core.stage import Context, Plan, ShardWriter, Stage, Work


@dataclass(frozen=True)
class ToyConfig:
    """What the toy makes."""

    shards: int = option(4, "How many shards")
    rows: int = option(5, "Rows a shard")
    delay: float = option(0.0, "Seconds a row", affects=False)
    fail_at: int = option(-1, "Raise in this shard", affects=False)


def toy_row(shard: int, n: int) -> PromptRow:
    messages = [text_message("user", f"shard {shard} row {n}")]
    key = prompt_id(label="general", messages=messages, images=[], answer=None)
    return PromptRow(id=key, label="general", source="toy", task="toy", messages=messages)


class ToyStage(Stage):
    name, version, table, reads, config = "toy", 1, PROMPTS, (), ToyConfig

    def plan(self, ctx: Context) -> Plan:
        rejected = [RejectedRow(stage="toy", source="toy", ref="row x", reason="duplicate", detail="twice")]
        return Plan([{"shard": i} for i in range(ctx.config.shards)], {"toy": 1}, rejected)

    def open(self, ctx: Context) -> Work:
        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            for n in range(ctx.config.rows):
                time.sleep(ctx.config.delay)
                writer.row(toy_row(shard["shard"], n))
            if shard["shard"] == ctx.config.fail_at:
                raise RuntimeError("asked to fail")
            writer.reject("toy", f"shard {shard['shard']}", "odd", "kept with its reason")
            writer.artifact(f"notes/{shard['shard']}.txt").write_text("note")

        return work


TOY = ToyStage()


class PromptReader(Stage):
    """Reads prompts and writes them again."""

    name, version, table, reads, config = "reader", 1, PROMPTS, (PROMPTS,), ToyConfig

    def plan(self, ctx: Context) -> Plan:
        return Plan([{"folder": i} for i in range(len(ctx.inputs))], {})

    def open(self, ctx: Context) -> Work:
        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            for row in ctx.inputs[shard["folder"]].rows(PROMPTS):
                writer.row(row)

        return work


def main() -> None:
    """`python -m tests.support.toy RUNS SHARDS DELAY [i/n]`: for tests that kill it."""
    from stages.core.runner import Options, run_stage

    runs, shards, delay = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    i, n = (int(x) for x in sys.argv[4].split("/")) if len(sys.argv) > 4 else (0, 1)
    config = ToyConfig(shards=shards, delay=delay)
    result = run_stage(ToyStage(), config, [], options=Options(runs=runs, worker=(i, n)))
    print(result.path, result.state, os.getpid())


if __name__ == "__main__":
    main()
