"""Stages that misbehave on a worker. They live in a module of their own, which workers import by name."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.config import option
from stages.core.stage import Context, ShardWriter, Work
from tests.support.toy import ToyConfig, ToyStage


@dataclass(frozen=True)
class MortalConfig(ToyConfig):
    """What happens to whom."""

    kill_at: int = option(-1, "Die by SIGKILL in this shard", affects=False)
    lives: int = option(1, "How many workers that shard costs", affects=False)
    diary: str = option("", "A folder: a file for each opening and each death", affects=False)


class MortalToy(ToyStage):
    """Kills its worker in the middle of a shard, so many times; tells of each row."""

    config = MortalConfig

    def open(self, ctx: Context) -> Work:
        config: MortalConfig = ctx.config
        diary = Path(config.diary)
        (diary / f"open-{os.getpid()}").touch()
        ctx.progress.log(f"opened with OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")
        toy = super().open(ctx)

        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            ctx.progress.start("toy", config.rows, "rows")
            ctx.progress.advance(config.rows, rows_per_second=1.0)
            if shard["shard"] == config.kill_at and len(list(diary.glob("death-*"))) < config.lives:
                (diary / f"death-{os.getpid()}").touch()
                # Long enough for what was told to arrive.
                time.sleep(1.0)
                os.kill(os.getpid(), signal.SIGKILL)
            toy(shard, writer)

        return work
