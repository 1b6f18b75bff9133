"""Each rank with the whole model, and the choice among all layouts."""

# No annotations from the future here: torch looks at those of `mean_in`, and a text is no GradBucket to it.
from typing import Any

import torch

from stages.train.config import TrainConfig
from stages.train.optim import optimizer_state, trainable
from stages.train.parallel import ranks
from stages.train.parallel.layout import Layout, Tensors


class Whole(Layout):
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

    def weights(self, model: Any) -> Tensors:
        """As they are, copied to the CPU: every rank has all of it."""
        saved = {n: b.cpu() for n, b in model.state_dict().items() if n in dict(model.named_buffers())}
        return {n: p.detach().cpu() for n, p in model.named_parameters()} | saved

    def moments(self, model: Any, optimizer: torch.optim.Optimizer) -> Tensors:
        """As they are, copied to the CPU: every rank has all of it."""
        return optimizer_state(model, optimizer)


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

        return Fsdp(config)
    from stages.train.parallel.zero import Zero

    return Zero(config)
