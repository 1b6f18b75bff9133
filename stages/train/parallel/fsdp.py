"""FSDP2: torch's `fully_shard`, through accelerate. Needs nothing but torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from stages.train.optim import STATE, trainable
from stages.train.parallel.layout import Tensors

_CONFIG = {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "reshard_after_forward": True}


class Fsdp:
    """Parameters, gradients and moments are `DTensor`s, one slice a rank."""

    sharded = True

    def arguments(self, model: Any, autocast: bool) -> dict[str, Any]:
        """With autocast, layers compute in bfloat16 and parameters stay in float32."""
        return {"fsdp": True, "fsdp_config": dict(_CONFIG), "bf16": autocast}

    def begin(self, trainer: Any, moments: Tensors) -> None:
        """Each rank takes its slices."""
        state = trainer.session.optimizer.state
        for name, parameter in trainable(trainer.model).items():
            if f"{name}.step" in moments:
                state[parameter] = {kind: _sliced(moments[f"{name}.{kind}"], parameter, kind) for kind in STATE}

    def weights(self, model: Any) -> Tensors:
        """Gathered one by one."""
        named = [*model.named_parameters(), *model.named_buffers()]
        saved = model.state_dict().keys()
        parameters = {n for n, _ in model.named_parameters()}
        return {n: _whole(t) for n, t in named if n in parameters or n in saved}

    def moments(self, model: Any, optimizer: torch.optim.Optimizer) -> Tensors:
        """Gathered one by one."""
        return {
            f"{name}.{kind}": _whole(optimizer.state[p][kind])
            for name, p in trainable(model).items()
            if p in optimizer.state
            for kind in STATE
        }


def _sliced(value: Tensor, parameter: Any, kind: str) -> Tensor:
    value = value.to(parameter.device)
    if kind == "step" or not isinstance(parameter, DTensor):
        return value.clone()
    return distribute_tensor(value, parameter.device_mesh, parameter.placements)


def _whole(value: Any) -> Tensor:
    value = value.detach()
    return (value.full_tensor() if isinstance(value, DTensor) else value).cpu()
