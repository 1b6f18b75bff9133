"""What the workers of a cluster tell, as one count for the person."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import ray
from ray.exceptions import RayError

from stages.core.executors.base import Job
from stages.core.executors.ray.worker import Note

_EVERY_S = 0.5
_LAST_S = 5.0
_RATE = "_per_second"


class Tally:
    """Adds up the workers' notes. A lost worker's count for the shard it had in hand is taken back."""

    def __init__(self, job: Job, mailbox: Any) -> None:
        self._job, self._mailbox = job, mailbox
        self._asked, self._call = time.monotonic(), None
        self._unit = ""
        self._counted: Counter[tuple[int, int | None]] = Counter()
        self._rates: dict[int, dict[str, float]] = {}
        self._gone: set[tuple[int, int | None]] = set()
        self._shards = len(job.folder.receipts())

    def look(self, last: bool = False) -> None:
        """Show what has arrived, if it is time; the `last` time all of it."""
        now = time.monotonic()
        if last and self._call is not None:
            # What was asked for before the last shard was done may not hold its notes.
            self._take(_LAST_S)
        if self._call is None and (last or now - self._asked >= _EVERY_S):
            self._asked, self._call = now, self._mailbox.take.remote()
        if self._call is not None:
            self._take(_LAST_S if last else 0)

    def _take(self, patience: float) -> None:
        ready, _ = ray.wait([self._call], timeout=patience)
        if ready:
            self._call = None
            try:
                notes: list[Note] = ray.get(ready[0])
            # The mailbox's machine died, and Ray starts it anew (`max_restarts`): the rows do not depend on it.
            except RayError:
                return
            for note in notes:
                self._show(note)

    def done(self, worker: int) -> None:
        """A worker's shard is committed."""
        self._shards += 1
        self._rates.pop(worker, None)

    def lost(self, worker: int, shard: int | None) -> None:
        """A worker is gone, and what it had in hand with it."""
        # Not all of the worker: shards that it did may be told of yet.
        self._gone.add((worker, shard))
        self._rates.pop(worker, None)
        if counted := self._counted[worker, shard]:
            self._job.ctx.progress.advance(-counted)

    def _show(self, note: Note) -> None:
        progress = self._job.ctx.progress
        if note.message:
            progress.log(note.message)
        if note.unit and note.unit != self._unit:
            self._unit = note.unit
            progress.start(self._job.stage.name, None, note.unit)
        # Told before the death and read after it: `lost` has taken this shard's count back already.
        if not note.count or (note.worker, note.shard) in self._gone:
            return
        self._counted[note.worker, note.shard] += note.count
        numbers = dict(note.numbers)
        # What each worker does in a second adds up; of anything else the newest is shown.
        worker_rates = {k: float(v) for k, v in note.numbers.items() if k.endswith(_RATE)}
        self._rates[note.worker] = worker_rates
        numbers.update({k: sum(r.get(k, 0.0) for r in self._rates.values()) for k in worker_rates})
        progress.advance(note.count, shards=f"{self._shards}/{self._job.folder.total}", **numbers)
