"""DeepSpeed ZeRO 2 and 3, through transformers: the configurations lie beside this file."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from stages.core.errors import UnavailableError
from stages.models.load import Policy
from stages.train.config import TrainConfig
from stages.train.optim import STATE, fitting, make_optimizer, trainable
from stages.train.parallel import ranks
from stages.train.parallel.fsdp import Fsdp
from stages.train.parallel.layout import Layout, Tensors
from stages.train.parallel.parts import (
    StoredTensors,
    moments_in_parts,
    optimizer_in_parts,
    part_of,
    read_in_parts,
    weights_in_parts,
)
from stages.train.parallel.zero_model import InEngine, Places


class Zero(Layout):
    """Gradients and moments are sharded (2), parameters too (3).

    Outside of training both lie in parts in the host's memory, as DTensors, whatever DeepSpeed makes of them within.
    """

    sharded = True
    on_host = True
    takes_adapters = False

    def __init__(self, config: TrainConfig) -> None:
        name = config.parallel
        if importlib.util.find_spec("deepspeed") is None:
            raise UnavailableError(f"--parallel {name} needs DeepSpeed", "pip install 'cosmo-rl[deepspeed]'")
        self.config = json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
        self._name, self._reduce = name, config.reduce_dtype
        self._of_frozen = Fsdp(config)
        """DeepSpeed gathers for an engine with an optimizer. A model that is not trained has torch's own layout."""
        self._mesh: DeviceMesh | None = None
        self._engine: InEngine | None = None
        """Model and moments while a trainer has them."""

    @contextmanager
    def constructing(self, device: str, frozen: bool = False) -> Iterator[None]:
        """A policy is read in parts; a model that is not trained, too, and lies on the ranks as with FSDP2."""
        if frozen:
            with self._of_frozen.constructing(device, frozen=True):
                yield
            return

        def lay_out(model: Any) -> None:
            places = Places(model)
            for name, parameter in list(model.named_parameters()):
                part = part_of(parameter.detach(), self._host_mesh())
                places.put(name, torch.nn.Parameter(part, requires_grad=parameter.requires_grad))

        with read_in_parts(lay_out, self._name):
            yield

    def _host_mesh(self) -> DeviceMesh:
        if self._mesh is None:
            self._mesh = init_device_mesh("cpu", (ranks.count(),))
        return self._mesh

    def arguments(self, model: Any, autocast: bool) -> dict[str, Any]:
        """Weights stay in float32 under autocast, which DeepSpeed does itself: nobody else may."""
        if not torch.accelerator.is_available():
            _skip_build()
        more: dict[str, Any] = {"communication_data_type": {"float32": "fp32", "bfloat16": "bf16"}[self._reduce]}
        # Weights in bfloat16 compute in it without any cast, and under a cast DeepSpeed adds up in the weights' dtype.
        if autocast and model.dtype == torch.float32:
            cast: dict[str, Any] = {"enabled": True, "dtype": "bfloat16"}
            if self._reduce == "float32":
                # Of the layers listed here DeepSpeed adds gradients in the cast's dtype; left out, of all linear ones.
                cast["lower_precision_safe_modules"] = []
            more["torch_autocast"] = cast
        return {"deepspeed": {**self.config, **more}, "bf16": False}

    def optimizer(self, model: Any, config: TrainConfig, moments: Mapping[str, Tensor]) -> torch.optim.AdamW:
        """Of the parts, each rank with its own part of the moments."""
        return optimizer_in_parts(model, config, moments)

    def put_weights(self, model: Any, weights: Mapping[str, Tensor]) -> None:
        """Fill the model from a checkpoint, each rank its parts."""
        assert isinstance(weights, StoredTensors)
        weights.read_into(weights_in_parts(model))

    def prepare(self, trainer: Any) -> None:
        """Hand model and moments over, one parameter after the other."""
        self._engine = InEngine(trainer, trainer.args.hf_deepspeed_config.config, self._host_mesh())

    def weights(self, model: Any) -> Tensors:
        """In parts; the float32 ones where DeepSpeed keeps some."""
        return weights_in_parts(model) if self._engine is None else self._engine.weights()

    def moments(self, model: Any, optimizer: torch.optim.Optimizer) -> Tensors:
        """In parts, as the weights are."""
        return moments_in_parts(model, optimizer) if self._engine is None else self._engine.moments()

    def end(self, policy: Policy, optimizer: torch.optim.AdamW, config: TrainConfig) -> torch.optim.AdamW:
        """Take both back, if there was a step to take; the optimizer of the parts that the model has now."""
        if self._engine is None:
            return optimizer
        moments, self._engine = self._engine.end(), None
        made = make_optimizer(policy.model, config, {})
        for name, parameter in trainable(policy.model).items() if moments else ():
            given = {kind: moments.pop(f"{name}.{kind}") for kind in STATE if f"{name}.{kind}" in moments}
            made.state[parameter] = fitting(made, parameter, given)
        return made


def _skip_build() -> None:
    """On a CPU: no half-minute build of a shared-memory transport that gloo does without."""
    from deepspeed.ops import __compatible_ops__

    __compatible_ops__["deepspeed_shm_comm"] = False
