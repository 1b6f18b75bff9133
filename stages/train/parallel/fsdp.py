"""FSDP2: torch's `fully_shard`, one group of parameters a layer. Needs nothing but torch, and runs on CPUs, too.

The model is in parts from the first to the last: it is made without memory, laid out, and then each rank reads what
it keeps of every weight. What is saved is written tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from stages.train.config import TrainConfig, autocasts
from stages.train.parallel import ranks
from stages.train.parallel.layout import Layout, Tensors
from stages.train.parallel.parts import (
    StoredTensors,
    moments_in_parts,
    optimizer_in_parts,
    read_in_parts,
    weights_in_parts,
)


class Fsdp(Layout):
    """Parameters, gradients and moments are `DTensor`s, one slice a rank."""

    sharded = True

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._mesh: DeviceMesh | None = None

    @contextmanager
    def constructing(self, device: str, frozen: bool = False) -> Iterator[None]:
        """Models that are loaded within lie on the ranks before any weight is read.

        UnavailableError where transformers can't read weights by parts.
        """
        with read_in_parts(lambda model: self._shard(model, device, frozen), self._config.parallel):
            yield

    def _shard(self, model: Any, device: str, frozen: bool) -> None:
        """In place: layers, then the rest, which stays gathered between a forward and its backward."""
        layers = set(model._no_split_modules or ())
        how = self._how(device)
        # Inner modules first, as `fully_shard` asks for: a module takes what its children have not.
        for module in reversed([m for m in model.modules() if type(m).__name__ in layers]):
            fully_shard(module, **how)
        fully_shard(model, reshard_after_forward=True if frozen else None, **how)

    def lay_out_adapters(self, model: Any, device: torch.device) -> None:
        """What a layer has got of new parameters is one more group, in parts like all others."""
        how, done = self._how(str(device)), set()
        # Each is a module, too, which its class does not say.
        owners: list[Any] = [m for m in model.modules() if isinstance(m, FSDPModule)]
        for owner in reversed(owners):
            own = [m for m in owner.modules() if id(m) not in done and _is_new(m)]
            done |= set(map(id, own))
            if own:
                fully_shard(own, **how)

    def _how(self, device: str) -> dict[str, Any]:
        """Autocast: layers compute in bfloat16."""
        kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        if self._mesh is None:
            self._mesh = init_device_mesh(kind, (ranks.count(),))
        computed = torch.bfloat16 if autocasts(self._config, kind) else None
        reduced = getattr(torch, self._config.reduce_dtype)
        return {"mesh": self._mesh, "mp_policy": MixedPrecisionPolicy(param_dtype=computed, reduce_dtype=reduced)}

    def arguments(self, model: Any, autocast: bool) -> dict[str, Any]:
        """Nothing: FSDP casts a layer's parameters itself, and accelerate's autocast would come on top."""
        return {"bf16": False}

    def prepare(self, trainer: Any) -> None:
        """Have accelerate take the model as it is, where it would have made a DDP one."""
        trainer.accelerator.prepare_model = lambda model, **_: model

    def optimizer(self, model: Any, config: TrainConfig, moments: Mapping[str, Tensor]) -> torch.optim.AdamW:
        """Of the slices, each rank with its own part of the moments."""
        return optimizer_in_parts(model, config, moments)

    def put_weights(self, model: Any, weights: Mapping[str, Tensor]) -> None:
        """Fill the model from a checkpoint, each rank its parts."""
        assert isinstance(weights, StoredTensors)
        weights.read_into(self.weights(model))

    def weights(self, model: Any) -> Tensors:
        """Parameters and the buffers that are saved with a model, in parts."""
        for module in model.modules():
            # A forward without a backward leaves the root gathered.
            if isinstance(module, FSDPModule):
                module.reshard()
        return weights_in_parts(model)

    def moments(self, model: Any, optimizer: torch.optim.Optimizer) -> Tensors:
        """The optimizer's state as `optimizer_state` names it, in parts."""
        return moments_in_parts(model, optimizer)


def _is_new(module: torch.nn.Module) -> bool:
    """Whether a module has parameters of its own that are whole."""
    return any(not isinstance(p, DTensor) for p in module.parameters(recurse=False))
