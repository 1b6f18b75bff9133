"""How a model and its optimizer lie on the ranks, and how they are gathered again.

Outside of training the model is whole, as with one process. A layout takes it over when a trainer starts, and
gives weights and moments by parameter name for a checkpoint, whoever goes on from that.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from stages.models.load import Policy
from stages.train.config import TrainConfig
from stages.train.optim import optimizer_state, trainable
from stages.train.parallel import ranks
from stages.train.parallel.gather import Tensors, saved_buffers


class Layout(Protocol):
    """One way to lay a model over the ranks."""

    sharded: bool
    """No rank has the whole model, and every forward is a meeting of all."""

    def arguments(self, model: Any, autocast: bool) -> dict[str, Any]:
        """TrainingArguments that make transformers' Trainer lay the model out so."""

    def prepare(self, trainer: Any) -> None:
        """Before the trainer lays its model out."""

    def begin(self, trainer: Any, moments: Tensors) -> None:
        """Give the trainer, whose model is laid out by now, the optimizer's moments."""

    def weights(self, model: Any) -> Tensors:
        """Parameters by name, tied ones once, and the buffers that are saved with a model, whole, on the CPU."""

    def moments(self, model: Any, optimizer: torch.optim.Optimizer) -> Tensors:
        """The optimizer's state as `optimizer_state` names it, whole, on the CPU."""

    def make_whole(
        self, policy: Policy, optimizer: torch.optim.AdamW, config: TrainConfig
    ) -> tuple[Policy, torch.optim.AdamW]:
        """After training: the policy with its whole model in one place, and the optimizer of its parameters."""


class Whole:
    """Each rank has the whole model: one process, or DDP."""

    sharded = False

    def __init__(self, reduce_dtype: str) -> None:
        self._reduce = getattr(torch, reduce_dtype)

    def arguments(self, model: Any, autocast: bool) -> dict[str, Any]:
        """For DDP: a step of texts alone leaves the vision tower unused; buffers are the same everywhere."""
        if ranks.count() == 1:
            return {"bf16": autocast}
        # What takes part in every step. Only beyond that DDP has to look for unused parameters, a walk over the graph
        # each time.
        always = {id(p) for part in (model.get_decoder(), model.get_output_embeddings()) for p in part.parameters()}
        unused = any(id(p) not in always for p in trainable(model).values())
        return {"bf16": autocast, "ddp_find_unused_parameters": unused, "ddp_broadcast_buffers": False}

    def prepare(self, trainer: Any) -> None:
        """Where there are several ranks the trainer makes a DDP model, which adds gradients up in their own dtype."""
        if ranks.count() == 1 or all(p.dtype == self._reduce for p in trainable(trainer.model).values()):
            return
        lay_out = trainer.accelerator.prepare_model

        def reducing(model: Any, **how: Any) -> Any:
            laid_out = lay_out(model, **how)
            laid_out.register_comm_hook(self._reduce, mean_in)
            return laid_out

        trainer.accelerator.prepare_model = reducing

    def begin(self, trainer: Any, moments: Tensors) -> None:
        """Nothing: the optimizer has kept them."""

    def weights(self, model: Any) -> Tensors:
        """As they are, copied to the CPU: every rank has all of it."""
        return {n: p.detach().cpu() for n, p in model.named_parameters()} | saved_buffers(model)

    def moments(self, model: Any, optimizer: torch.optim.Optimizer) -> Tensors:
        """As they are, copied to the CPU: every rank has all of it."""
        return optimizer_state(model, optimizer)

    def make_whole(
        self, policy: Policy, optimizer: torch.optim.AdamW, config: TrainConfig
    ) -> tuple[Policy, torch.optim.AdamW]:
        """The same two: they never were anything else."""
        return policy, optimizer


def mean_in(dtype: torch.dtype, bucket: torch.distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """A DDP hook: all ranks' mean of a bucket of gradients, shape (N,), added up in this dtype."""
    gradients = bucket.buffer()
    added = gradients.to(dtype) / ranks.count()
    work = torch.distributed.all_reduce(added, async_op=True)
    assert work is not None

    def back(done: torch.futures.Future[Any]) -> torch.Tensor:
        return gradients.copy_(done.value()[0])

    return work.get_future().then(back)


def layout_of(config: TrainConfig) -> Layout:
    """The layout that `parallel` names."""
    if config.parallel == "ddp":
        return Whole(config.reduce_dtype)
    if config.parallel == "fsdp2":
        from stages.train.parallel.fsdp import Fsdp

        return Fsdp(config.reduce_dtype)
    from stages.train.parallel.zero import Zero

    return Zero(config.parallel, config.reduce_dtype)
