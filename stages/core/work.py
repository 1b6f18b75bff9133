"""Doing the shards of a plan: each is staged, committed once, and survives a kill anywhere."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from stages.core.commit import (
    StagedShard,
    clean_staging,
    drop_broken,
    make_folder,
    scratch_folder,
    shard_lock,
)
from stages.core.folder import RunFolder
from stages.core.stage import Context, Plan, Stage, Work

if TYPE_CHECKING:
    from stages.core.runner import Options


def do_shards(stage: Stage, ctx: Context, folder: RunFolder, plan: Plan, missing: list[int], options: Options) -> None:
    """Make this worker's missing shards; first those nobody holds, then wait for the rest."""
    make_folder(folder.path)
    index, count = options.worker
    mine = [i for i in missing if i % count == index]
    held: list[int] = []
    work: Work | None = None
    for waiting, shards in ((False, mine), (True, held)):
        for shard in shards:
            with shard_lock(folder, shard, wait=waiting) as have:
                if not have:
                    held.append(shard)
                elif not folder.committed(shard):
                    if work is None:
                        work = stage.open(dataclasses.replace(ctx, scratch=scratch_folder(folder, shard)))
                    _one_shard(stage, folder, plan, shard, work)
        if not waiting and held:
            ctx.progress.log(f"waiting for another process on {len(held)} shards of {folder.path.name}")
    if not folder.missing():
        clean_staging(folder)


def _one_shard(stage: Stage, folder: RunFolder, plan: Plan, index: int, work: Work) -> None:
    drop_broken(folder, index)
    writer = StagedShard(folder, stage.name, stage.table, index)
    try:
        if index == 0:
            for row in plan.rejected:
                writer.keep_rejected(row)
        work(plan.shards[index], writer)
        writer.commit()
    except BaseException as error:
        writer.abandon()
        # On machines without shared locks the winner may tidy up under a loser's feet.
        if isinstance(error, FileNotFoundError) and folder.committed(index):
            return
        raise
