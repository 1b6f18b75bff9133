"""This process does one shard after another: the default."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from stages.core.executors.base import Job


@dataclass(frozen=True)
class LocalConfig:
    """Nothing to set."""


class LocalExecutor:
    """First the shards that nobody holds, then those that another process does, if it did not finish them."""

    config = LocalConfig

    def do(self, job: Job, settings: LocalConfig) -> None:
        """Do the shards."""
        from stages.core.executors.shard_worker import ShardWorker

        worker = ShardWorker(job.stage, job.ctx, job.folder, job.plan.rejected)
        elsewhere = [shard for shard in job.shards if not worker.do(shard)]
        if elsewhere:
            job.ctx.progress.log(f"waiting for another process on {len(elsewhere)} shards of {job.folder.path.name}")
        for shard in elsewhere:
            worker.do(shard, wait=True)

    def held(self, settings: LocalConfig) -> AbstractContextManager[None]:
        """Nothing to share."""
        return nullcontext()


PLUGIN = LocalExecutor()
