"""Doing the shards of a plan: each is staged, committed once, and survives a kill anywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from schemas.rejected import RejectedRow
from stages.core.runs.behind import Behind
from stages.core.runs.commit import StagedShard, scratch_folder, shard_lock
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Stage, Work


@dataclasses.dataclass(slots=True)
class _Staging:
    """Whether a staged shard is still this thread's to throw away."""

    given_away: bool = False


class ShardWorker:
    """One process at the shards of a run, one at a time: the stage is opened at the first and stays open.

    With `behind`, a shard is committed there, its lock held until then.
    """

    def __init__(
        self,
        stage: Stage,
        ctx: Context,
        folder: RunFolder,
        rejected: list[RejectedRow],
        behind: Behind | None = None,
    ) -> None:
        self._stage, self._ctx, self._folder, self._rejected = stage, ctx, folder, rejected
        self._behind = behind
        self._work: Work | None = None

    def do(self, shard: int, wait: bool = False) -> bool:
        """See to it that the shard is committed. False when another process has it in hand, and `wait` is off."""
        with ExitStack() as held:
            locked = held.enter_context(shard_lock(self._folder, shard, wait=wait))
            # Others may have made it since it was found missing.
            if locked and not self._folder.files.committed(shard):
                if self._work is None:
                    scratch = scratch_folder(self._folder, shard)
                    self._work = self._stage.open(dataclasses.replace(self._ctx, scratch=scratch))
                self._make(shard, self._work, held)
            return locked

    def _make(self, shard: int, work: Work, held: ExitStack) -> None:
        """Stage the shard and publish it: now, or behind, where what is held for it goes along."""
        # It stands, and its files are gone. Where none stands nothing is deleted: another may be about to commit.
        if self._folder.receipt(shard) is not None:
            self._folder.files.writer().forget(shard)
        writer = StagedShard(self._folder, self._stage.name, self._stage.writes(self._ctx.config), shard)
        with self._or_abandoned(shard, writer) as staging:
            writer.begin()
            # What planning left out belongs to no shard: the first one keeps it.
            if shard == 0:
                for row in self._rejected:
                    writer.keep_rejected(row)
            work(self._folder.manifest.shards[shard], writer)
            if self._behind is None:
                writer.commit()
                return
            # What went wrong with the shard before this one ends both.
            self._behind.wait()
            lock = held.pop_all()

            def commit() -> None:
                with lock, self._or_abandoned(shard, writer):
                    writer.commit()

            # From here on it is the other thread's: Ctrl-C must not delete what that may be publishing.
            staging.given_away = True
            self._behind.start(commit)

    @contextmanager
    def _or_abandoned(self, shard: int, writer: StagedShard) -> Iterator[_Staging]:
        """Around making a shard: whatever ends it, nothing that is half made stays staged."""
        staging = _Staging()
        try:
            yield staging
        # Ctrl-C, too.
        except BaseException as error:
            if staging.given_away:
                raise
            writer.abandon()
            # On machines without shared locks the winner may tidy up under a loser's feet.
            if isinstance(error, FileNotFoundError) and self._folder.files.committed(shard):
                return
            raise
