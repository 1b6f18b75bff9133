"""What our trainers have in common where there may be several ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from stages.train.parallel import ranks
from stages.train.parallel.split import Part

if TYPE_CHECKING:
    import torch

    from stages.train.session import Session


class RankTrainer:
    """A mixin before transformers' Trainer: the session's optimizer and schedule, the way each layout wants them."""

    session: Session
    total: int
    """Steps of this run, over which the rate goes down where `schedule_steps` is open; 0 for constant."""
    model: Any
    optimizer: Any
    lr_scheduler: Any
    accelerator: Any

    @property
    def part(self) -> Part:
        """Which part of every step is this rank's."""
        # Of a frozen language model texts move nothing, and DDP waits for ever for a rank without any gradient.
        alike = self.session.config.freeze_language and ranks.count() > 1
        return Part(ranks.rank(), ranks.count(), self.session.layout.sharded or alike)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The session's, with its moments; transformers would make a new AdamW."""
        if self.optimizer is None:
            self.optimizer = self.session.optimizer
            # The one moment for it: the accelerator is there, and has not laid the model out yet.
            self.session.layout.prepare(self)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The session's, from the step it stands at; transformers would begin at step 0 of its own schedule."""
        if self.lr_scheduler is None:
            self.lr_scheduler = self.session.scheduler(self.total)
        return self.lr_scheduler

    def _move_model_to_device(self, model: Any, device: Any) -> None:
        """transformers would put a model on its device when the trainer is made; in parts it lies where it is to."""
        if not self.session.layout.sharded:
            super()._move_model_to_device(model, device)  # type: ignore[misc]

    @contextmanager
    def adding_up(self, model: Any, last: bool) -> Iterator[None]:
        """Around forward and backward of a micro-batch: ranks add their gradients after a step's last one."""
        # transformers sets it for an accumulation of its own, one forward a call, and here one call has several.
        # DeepSpeed reduces and steps where it is True, and accelerate's optimizer skips its step where it is not.
        self.accelerator.sync_gradients = last
        with nullcontext() if last else self.accelerator.no_sync(model):
            yield
