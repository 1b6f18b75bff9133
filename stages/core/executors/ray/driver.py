"""The command's side of `--executor ray`: starts workers, hands shards out, takes them back from the dead."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from stages.core.config import as_dict
from stages.core.errors import CosmoError, UnavailableError
from stages.core.executors.base import Job
from stages.core.executors.ray.config import RayConfig
from stages.core.executors.ray.progress import Tally
from stages.core.executors.ray.worker import Mailbox, Outcome, Task, Worker

# How long a signal or a worker's progress may go unnoticed.
_POLL_S = 0.5
_TERMINATED = 128 + signal.SIGTERM
# A machine may be lost for any reason; a shard that has ended three workers is the reason itself.
_TRIES = 3
_LONG_WAIT_S = 30.0
_TRAVELS = ("COSMO_", "HF_", "TRANSFORMERS_", "TOKENIZERS_", "VLLM_", "OMP_", "GOMP_")
# What travels lies in Ray's store for as long as the job runs: a machine has to bring its own secrets.
_SECRET = ("_TOKEN", "_KEY", "_SECRET", "_PASSWORD")


@dataclass(slots=True)
class Member:
    """A worker, and what it has been given."""

    number: int
    handle: Any
    shard: int | None = None
    """In hand; None while it gets ready or has nothing to do."""
    waits: bool = False
    """Told to wait for another process that has the shard."""


class Driver:
    """One job on a connected cluster."""

    def __init__(self, job: Job, settings: RayConfig, stopped: Callable[[], bool]) -> None:
        self._job, self._stopped = job, stopped
        self._cpus, self._gpus = settings.cpus, _gpus(settings, job.stage.gpus(job.ctx.config))
        self._most = room(settings, job.stage.gpus(job.ctx.config))
        self._task = ray.put(_task(job))
        # It asks for no CPU, so a full cluster has room for it. Where its machine dies it starts again, empty: what is
        # lost is a count for the person to look at.
        self._mailbox = ray.remote(num_cpus=0, max_restarts=-1)(Mailbox).remote()
        self._tally = Tally(job, self._mailbox)
        self._todo, self._elsewhere = list(job.shards), list[int]()
        self._calls: dict[Any, Member] = {}
        self._idle: list[Member] = []
        self._deaths: Counter[int | None] = Counter()
        self._started = 0

    def run(self) -> None:
        """Until every shard is committed; whatever ends it, no worker outlives it."""
        begun = time.monotonic()
        try:
            # Workers that only get ready are not waited for once no shard is left.
            while self._todo or self._elsewhere or any(m.shard is not None for m in self._calls.values()):
                self._fill()
                ready, _ = ray.wait(list(self._calls), timeout=_POLL_S)
                for call in ready:
                    self._receive(call, self._calls.pop(call))
                self._tally.look()
                if self._stopped():
                    raise SystemExit(_TERMINATED)
                if begun and time.monotonic() - begun > _LONG_WAIT_S:
                    begun = self._say_what_is_awaited()
            self._tally.look(last=True)
        finally:
            for member in (*self._calls.values(), *self._idle):
                _kill(member)

    def _fill(self) -> None:
        """Give idle workers something to do, then start as many as there are shards for."""
        # Idle ones before new ones: theirs is a stage that is open, with its model loaded.
        while self._idle and (self._todo or self._elsewhere):
            self._give(self._idle.pop())
        # Each of these will ask for a shard: no worker is started that would find none.
        getting_ready = sum(m.shard is None for m in self._calls.values())
        workers_to_start = min(self._most - len(self._calls), len(self._todo) + len(self._elsewhere) - getting_ready)
        for _ in range(workers_to_start):
            self._started += 1
            # By default Ray packs workers onto few machines, whose memory a model each may be too much for.
            make = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, scheduling_strategy="SPREAD")(Worker)
            member = Member(self._started, make.remote(self._task, self._started, self._mailbox))
            self._calls[member.handle.ready.remote()] = member

    def _give(self, member: Member) -> None:
        """The next shard: first those that nobody else has in hand."""
        member.waits = not self._todo
        member.shard = (self._todo or self._elsewhere).pop(0)
        self._calls[member.handle.do.remote(member.shard, member.waits)] = member

    def _receive(self, call: Any, member: Member) -> None:
        """A call came back, or its worker won't."""
        shard, member.shard = member.shard, None
        try:
            outcome: Outcome = ray.get(call)
        # The worker's process is gone. What a stage raises comes back as an Outcome instead.
        except RayError as error:
            self._lost(member, shard, error)
            return
        # Before anything is raised: `run` ends the workers that it finds in a call or here.
        self._idle.append(member)
        if outcome.error is not None:
            raise outcome.error
        if shard is None:
            # One that got ready shows that the machines are fit: only deaths without any success between them count.
            del self._deaths[None]
        if shard is not None and not outcome.done:
            self._elsewhere.append(shard)
            self._job.ctx.progress.log(f"shard {shard:05d} is in the hands of another process: waiting for it")
        elif shard is not None:
            self._tally.done(member.number)

    def _lost(self, member: Member, shard: int | None, error: RayError) -> None:
        """The worker's shard goes back to the front of the queue, unless it has ended too many workers."""
        _kill(member)
        self._tally.lost(member.number, shard)
        why = _why(error)
        self._deaths[shard] += 1
        if shard is None:
            if self._deaths[shard] >= _TRIES:
                raise UnavailableError(
                    f"no Ray worker gets ready: {why}", "cosmo-rl, in this version, has to be on all machines"
                )
            return
        if self._deaths[shard] >= _TRIES:
            raise CosmoError(
                f"shard {shard:05d} of {self._job.folder.where} ended {_TRIES} workers: {why}",
                "lower the batch sizes; the same command without --executor shows what happens",
            )
        (self._elsewhere if member.waits else self._todo).insert(0, shard)
        self._job.ctx.progress.log(f"a worker was lost with shard {shard:05d} ({why}): another does it")

    def _say_what_is_awaited(self) -> float:
        """Say once why nothing begins; 0 then, and when there is nothing to say."""
        if all(m.shard is None for m in self._calls.values()) and not self._idle:
            takes = f"{self._cpus:g} CPUs and {self._gpus:g} GPUs"
            self._job.ctx.progress.log(f"the Ray cluster has had no room yet for a worker of {takes}: waiting")
        return 0.0


def _task(job: Job) -> Task:
    travels = {k: v for k, v in os.environ.items() if k.startswith(_TRAVELS) and not k.endswith(_SECRET)}
    kind = type(job.stage)
    return Task(
        stage=f"{kind.__module__}:{kind.__name__}",
        config=as_dict(job.ctx.config),
        inputs=[folder.where for folder in job.ctx.inputs],
        folder=job.folder.where,
        fingerprint=job.folder.fingerprint,
        cwd=os.getcwd(),
        rejected=[asdict(row) for row in job.plan.rejected],
        environment=travels,
    )


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _gpus(settings: RayConfig, needed: float) -> float:
    """GPUs a worker takes: as asked, else what its stage needs where the cluster has any."""
    if settings.gpus >= 0:
        return settings.gpus
    return needed if any(node.get("GPU") for node in _nodes()) else 0


def room(settings: RayConfig, needed: float) -> int:
    """How many workers there may be at a time, of a stage that needs so many GPUs each; UnavailableError for none."""
    return settings.workers or _room(settings.cpus, _gpus(settings, needed))


def _room(cpus: float, gpus: float) -> int:
    """How many workers the cluster's machines hold; UnavailableError for none."""
    needs = {name: n for name, n in (("CPU", cpus), ("GPU", gpus)) if n}
    nodes = _nodes()
    # By machine: a worker can't have its CPUs on one and its GPU on another.
    room = sum(int(min((node.get(name, 0) // n for name, n in needs.items()), default=1)) for node in nodes)
    if room:
        return room
    has = ", ".join(f"{sum(node.get(name, 0) for node in nodes):g} {name}s" for name in needs)
    raise UnavailableError(
        f"no machine of the Ray cluster has room for a worker of {cpus:g} CPUs and {gpus:g} GPUs (all have {has})",
        "lower executor.cpus or executor.gpus; where machines are added on demand: --set executor.workers=N",
    )


def _why(error: RayError) -> str:
    """What Ray says of a death, in a few words."""
    text = str(error)
    missing = [line for line in text.splitlines() if "ModuleNotFoundError" in line]
    if missing:
        return missing[-1].strip()
    if "low on memory" in text:
        return "its machine ran low on memory"
    return "its machine was lost" if "node has died" in text or "node was terminated" in text else "its process ended"


def _kill(member: Member) -> None:
    with contextlib.suppress(RayError, ValueError):
        ray.kill(member.handle)
