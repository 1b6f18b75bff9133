"""This process does one shard after another: the default."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from stages.core.executors.base import Job


@dataclass(frozen=True)
class LocalConfig:
    """Doing shards in this process takes no setting."""


class LocalExecutor:
    """One shard after another, in the command's own process."""

    config = LocalConfig

    def do(self, job: Job, settings: LocalConfig) -> None:
        """Each shard that nobody else has in hand, then those that others had and did not finish."""
        from stages.core.executors.shard_worker import ShardWorker
        from stages.core.runs.noted import noted

        ahead = tuple(job.folder.manifest.shards[shard] for shard in job.shards)
        with noted(job.ctx.progress, job.folder) as progress:
            ctx = dataclasses.replace(job.ctx, shards=ahead, progress=progress)
            worker = ShardWorker(job.stage, ctx, job.folder, job.plan.rejected, job.behind)
            # All the free ones first: to wait for a lock at once would leave the shards behind it to nobody.
            elsewhere = [shard for shard in job.shards if not worker.do(shard)]
            if elsewhere:
                progress.log(f"waiting for another process on {len(elsewhere)} shards of {job.folder.path.name}")
            for shard in elsewhere:
                worker.do(shard, wait=True)

    def workers(self, settings: LocalConfig, gpus: Callable[[], float]) -> int:
        """One: this process alone."""
        return 1

    def shared(self, settings: LocalConfig) -> AbstractContextManager[None]:
        """Around several jobs: a process has nothing to share with itself."""
        return nullcontext()


PLUGIN = LocalExecutor()
