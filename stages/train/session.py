"""One training run in hand: the policy, its optimizer, where it stands, and what has been recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from schemas.steps import StepRow
from stages.core.errors import CosmoError
from stages.core.stage import Context, ShardWriter
from stages.models.load import Policy
from stages.train.checkpoints import Checkpoints, Moment, Position, Trained
from stages.train.config import TrainConfig
from stages.train.drift.monitor import stop_on_alarm
from stages.train.launching.stop import STOP, StoppedError
from stages.train.lora import Adapters
from stages.train.optim import make_scheduler
from stages.train.parallel import ranks
from stages.train.parallel.layout import Layout
from stages.train.run_log import RunLog
from stages.train.saving import save
from stages.train.trainer_isolation import isolated, training_arguments


@dataclass(slots=True)
class Session:
    """Everything that changes while a policy is trained. `setup.open_session` makes one."""

    config: TrainConfig
    """The settings, with what they leave open filled in."""
    ctx: Context
    writer: ShardWriter
    policy: Policy
    optimizer: torch.optim.AdamW
    start: Position
    """Where the lineage stood before this run."""
    log: RunLog
    """Rows, rejected samples and alarms so far."""
    checkpoints: Checkpoints
    resumed: Moment | None
    """The checkpoint this run goes on from; None once its objective is past it."""
    layout: Layout
    adapters: Adapters | None = None
    """What is trained in place of whole weights, where LoRA is asked for."""
    stopping: bool = False  # Some rank was asked to end the run.
    extra_state: Callable[[], tuple[dict[str, Tensor], dict[str, Any]]] = lambda: ({}, {})
    """More tensors and facts that an objective wants in a checkpoint."""

    @property
    def rows(self) -> list[StepRow]:
        """The steps of this run so far."""
        return self.log.rows

    @property
    def step(self) -> int:
        """Optimizer steps of the lineage so far."""
        return self.start.step + len(self.rows)

    def begin(self, examples: int) -> tuple[range, int]:
        """Start the progress of a run over a fixed order; (the positions still to do, all steps)."""
        steps = -(-examples // self.config.batch_size)
        self.ctx.progress.start("train", steps, "step")
        if self.rows:
            self.ctx.progress.advance(len(self.rows))
        return range(len(self.rows) * self.config.batch_size, examples), steps

    def arguments(self, **more: Any) -> dict[str, Any]:
        """TrainingArguments that every trainer is given: no files, reports or saves, a record every step."""
        return training_arguments(self.config, self.policy, self.layout, self.ctx.scratch) | more

    def scheduler(self, own_steps: int) -> torch.optim.lr_scheduler.LambdaLR:
        """The rate schedule from the present step on.

        `schedule_steps` is counted over the lineage, which a run goes on with. Without it the schedule is this run's
        own, `own_steps` long and from its first step, whatever was trained before; 0: constant after warm-up.
        """
        if own_steps and not self.config.schedule_steps:
            return make_scheduler(self.optimizer, self.config, len(self.rows), own_steps)
        return make_scheduler(self.optimizer, self.config, self.step, self.config.schedule_steps)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Around a trainer: no traces of it are left, and the model lies as it did before."""
        with isolated(self.policy.model, self.policy.device):
            yield
            # No `finally`: after an error other ranks may be gone, and gathering would wait for them.
            self.optimizer = self.layout.end(self.policy, self.optimizer, self.config)

    def all_gather(self, own: Any) -> list[Any]:
        """After each step, before its row: what every rank has of it, in order of ranks.

        All learn with it what any rank has left out, and whether one was asked to stop: rows and checkpoints of rank 0
        hold everybody's, and all of them stop after the same step.
        """
        rejected = list(self.log.rejected.items()) if ranks.count() > 1 else []
        parts = ranks.all_gather((own, rejected, STOP.asked))
        for key, detail in (item for _, left_out, _ in parts for item in left_out):
            self.log.rejected.setdefault(key, detail)
        self.stopping = any(asked for _, _, asked in parts)
        return [value for value, _, _ in parts]

    def reject(self, source: str, ref: str, reason: str, detail: str) -> None:
        """Leave a sample out, once, however often it comes up."""
        self.log.reject(source, ref, reason, detail)

    def record(self, row: StepRow) -> None:
        """Keep a finished step's row, and now and then a checkpoint. StoppedError where the run was asked to end."""
        self.log.add(row, self.ctx.progress.log)
        numbers = {"loss": row.loss} | ({"reward": row.reward_mean} if row.reward_mean is not None else {})
        self.ctx.progress.advance(1, **numbers)
        due = self.config.checkpoint_steps and len(self.rows) % self.config.checkpoint_steps == 0
        if due or self.stopping:
            self._checkpoint()
        if self.stopping:
            raise StoppedError(f"stopped after step {row.step}, which is kept", "the same command goes on from there")

    def stop_on_alarm(self) -> None:
        """Between rollouts: end the run on an alarm that is to end it, in a state that the next call goes on from."""
        try:
            stop_on_alarm(self.config.watch, self.log.watch.events)
        except CosmoError:
            self._checkpoint()
            raise

    def _checkpoint(self) -> None:
        tensors, facts = self.extra_state()
        found: dict[str, dict[str, Tensor]] = {}
        # Of sharded weights each rank has its parts; whole ones the writing rank alone takes to the host.
        if self.layout.sharded or ranks.rank() == 0:
            found["model"] = self.layout.weights(self.policy.model)
            found["optimizer"] = self.layout.moments(self.policy.model, self.optimizer)
        extra = {"extra": tensors}
        whole, parts = (extra, found) if self.layout.sharded else (found | extra, {})
        self.checkpoints.save(len(self.rows), whole, {**self.log.record(), **facts}, parts)

    def finish(self, rollouts: int, carried: dict[str, float] | None = None) -> None:
        """Write rows, rejected samples, policy and trainer state; leave policy and state warm. Rank 0 alone writes."""
        position = Position(self.config.objective, self.step, self.start.rollouts + rollouts, carried or {})
        if ranks.rank() == 0:
            self.log.write(self.writer)
        save(
            Trained(
                self.ctx, self.writer, self.config, self.policy, self.optimizer, self.layout, self.adapters, position
            )
        )
