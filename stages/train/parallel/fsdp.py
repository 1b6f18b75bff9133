"""FSDP2: torch's `fully_shard`, one group of parameters a layer. Needs nothing but torch, and runs on CPUs, too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from stages.models.load import Policy
from stages.train.config import TrainConfig
from stages.train.optim import STATE, trainable
from stages.train.parallel import ranks
from stages.train.parallel.gather import Tensors, whole_policy


class Fsdp:
    """Parameters, gradients and moments are `DTensor`s, one slice a rank."""

    sharded = True

    def __init__(self, reduce_dtype: str) -> None:
        self._reduce = getattr(torch, reduce_dtype)

    def arguments(self, model: Any, autocast: bool) -> dict[str, Any]:
        """Nothing: accelerate's own FSDP is for GPUs alone."""
        # Kept for `_shard`: FSDP casts a layer's parameters itself, and accelerate's autocast would come on top.
        self._half = autocast
        return {"bf16": False}

    def prepare(self, trainer: Any) -> None:
        """Have accelerate take a sharded model where it would have made a DDP one."""

        def shard(model: Any, **_: Any) -> Any:
            self._shard(model, trainer.session.optimizer, trainer.session.policy.device)
            return model

        trainer.accelerator.prepare_model = shard

    def _shard(self, model: Any, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        """In place: layers, then the rest; the optimizer gets the slices. Autocast: layers compute in bfloat16."""
        # Before sharding, which replaces every parameter: the optimizer finds its slices again by name.
        names = {id(p): name for name, p in model.named_parameters()}
        mesh = init_device_mesh(device.type, (ranks.count(),))
        computed = torch.bfloat16 if self._half else None
        policy = MixedPrecisionPolicy(param_dtype=computed, reduce_dtype=self._reduce)
        layers = set(model._no_split_modules or ())
        # Inner modules first, as `fully_shard` asks for: a module takes what its children have not.
        for module in reversed([m for m in model.modules() if type(m).__name__ in layers]):
            fully_shard(module, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy)
        slices = dict(model.named_parameters())
        for group in optimizer.param_groups:
            group["params"] = [slices[names[id(p)]] for p in group["params"]]

    def begin(self, trainer: Any, moments: Tensors) -> None:
        """Each rank takes its slices."""
        state = trainer.session.optimizer.state
        for name, parameter in trainable(trainer.model).items():
            if f"{name}.step" in moments:
                kinds = [kind for kind in STATE if f"{name}.{kind}" in moments]
                state[parameter] = {kind: _sliced(moments[f"{name}.{kind}"], parameter, kind) for kind in kinds}

    def weights(self, model: Any) -> Tensors:
        """Gathered one by one: all at once would need the whole model beside the slices."""
        saved, parameters = model.state_dict().keys(), dict(model.named_parameters())
        buffers = {n: b for n, b in model.named_buffers() if n in saved}
        return {n: _whole(t) for n, t in (parameters | buffers).items()}

    def moments(self, model: Any, optimizer: torch.optim.Optimizer) -> Tensors:
        """Gathered one by one: all at once would need the whole model beside the slices."""
        return {
            f"{name}.{kind}": _whole(optimizer.state[p][kind])
            for name, p in trainable(model).items()
            if p in optimizer.state
            for kind in STATE
            if kind in optimizer.state[p]
        }

    def make_whole(
        self, policy: Policy, optimizer: torch.optim.AdamW, config: TrainConfig
    ) -> tuple[Policy, torch.optim.AdamW]:
        """A newly loaded model with these weights: every rank has all of it again."""
        # Both are gathered from the sharded model before it is let go.
        weights, moments = self.weights(policy.model), self.moments(policy.model, optimizer)
        return whole_policy(policy, config, weights, moments)


def _sliced(value: Tensor, parameter: Any, kind: str) -> Tensor:
    value = value.to(parameter.device)
    # The step is one number, the same on each rank.
    if kind == "step" or not isinstance(parameter, DTensor):
        return value.clone()
    return distribute_tensor(value, parameter.device_mesh, parameter.placements)


def _whole(value: Any) -> Tensor:
    value = value.detach()
    return (value.full_tensor() if isinstance(value, DTensor) else value).cpu()
