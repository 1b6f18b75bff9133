"""A model and its optimizer while DeepSpeed has them: how they go in, are looked at, and come out again.

One parameter at a time is whole, with its moments: what a rank has before and after is its part (`parts.py`).
"""

from __future__ import annotations

import gc
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import Module, Parameter
from transformers import TrainerCallback

from stages.train.masters import MASTER
from stages.train.optim import trainable
from stages.train.parallel import ranks
from stages.train.parallel.layout import Tensors
from stages.train.parallel.parts import moments_in_parts, part_of, whole

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Places:
    """The modules of a model as they are now. DeepSpeed gives each of them hooks, attributes and another dictionary."""

    def __init__(self, model: Module) -> None:
        names = {id(p): name for name, p in model.named_parameters()}
        self._of: dict[str, list[tuple[Module, str]]] = defaultdict(list)
        self._attributes: list[tuple[Module, dict[str, Any], list[tuple[dict[Any, Any], dict[Any, Any]]]]] = []
        for module in model.modules():
            for key, parameter in module._parameters.items():
                if parameter is not None:
                    # Tied ones under one name.
                    self._of[names[id(parameter)]].append((module, key))
            attributes = {k: v for k, v in vars(module).items() if k != "_parameters"}
            # Hooks are removed by what holds these very dictionaries.
            hooks = [(v, v.copy()) for k, v in attributes.items() if k.endswith("hooks") and isinstance(v, dict)]
            self._attributes.append((module, attributes, hooks))

    def put(self, name: str, parameter: Parameter) -> None:
        """Have this one for the parameter of that name, wherever it is used. KeyError for a name that there is not."""
        if name not in self._of:
            raise KeyError(name)
        for module, key in self._of[name]:
            module._parameters[key] = parameter

    def restore(self) -> None:
        """All but the parameters as it was."""
        for module, attributes, hooks in self._attributes:
            parameters = dict(module._parameters)
            vars(module).clear()
            vars(module).update(attributes, _parameters=parameters)
            for held, before in hooks:
                held.clear()
                held.update(before)


class InEngine:
    """What one trainer's engine has, from before it is made to the end of training."""

    def __init__(self, trainer: Any, config: dict[str, Any], mesh: DeviceMesh) -> None:
        """One parameter after the other goes whole to its device, where with ZeRO 3 DeepSpeed keeps a part at once.

        `config` is DeepSpeed's, with nothing left open; `mesh` is where parts lie outside of training.
        """
        self._trainer, self._mesh, self._places = trainer, mesh, Places(trainer.model)
        model, optimizer, device = trainer.model, trainer.session.optimizer, trainer.args.device
        self._moments = moments_in_parts(model, optimizer)
        """The optimizer's, until DeepSpeed's has them."""
        optimizer.state.clear()
        partition = _Partition(config) if config["zero_optimization"]["stage"] == 3 else None
        groups = [group["params"] for group in optimizer.param_groups]
        places = {id(p): (group, i) for group in groups for i, p in enumerate(group)}
        for name, part in list(model.named_parameters()):
            # A copy where one rank has all of it.
            parameter = Parameter(whole(part).to(device, copy=ranks.count() == 1), part.requires_grad)
            if partition is not None:
                partition(parameter)
            self._places.put(name, parameter)
            if id(part) in places:
                group, i = places[id(part)]
                group[i] = parameter
        _move_buffers(model, device)
        trainer.add_callback(_Begin(self))

    def begin(self) -> None:
        """DeepSpeed links the moments to parameters in the first step: one of nothing, at rate 0, then they are set."""
        optimizer, engine = self._trainer.session.optimizer, self._trainer.model_wrapped
        # ZeRO 2 links all groups after the step of the first, when the others would have none yet.
        for group in optimizer.param_groups:
            for flat in group["params"]:
                optimizer.state[flat] = {"step": torch.zeros((), device=flat.device)}
                optimizer.state[flat] |= {kind: torch.zeros_like(flat) for kind in _MOMENTS}
        if not self._moments:
            return
        rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            # AdamW's decay is a share of the rate, so it rests, too.
            group["lr"] = 0.0
        _step_of_nothing(self._trainer, engine)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        steps = max(float(v) for n, v in self._moments.items() if n.endswith(".step"))
        for name, parameter in trainable(self._trainer.model).items():
            for kind in (*_MOMENTS, MASTER):
                if f"{name}.{kind}" in self._moments:
                    _set(parameter, kind, whole(self._moments.pop(f"{name}.{kind}")).to(engine.device))
        for state in optimizer.state.values():
            # One for all: DeepSpeed's state is of flat groups and not of parameters.
            state["step"].fill_(steps)

    def weights(self) -> Tensors:
        """In parts, gathered one by one, the float32 ones where DeepSpeed keeps some; and buffers that are saved."""
        model, found = self._trainer.model, {}
        for name, parameter in model.named_parameters():
            # As the policy's own dtype: the masters of bfloat16 weights go with the moments.
            found[name] = part_of(_gathered(parameter).to(parameter.dtype), self._mesh)
        saved = model.state_dict().keys()
        return found | {n: b.cpu() for n, b in model.named_buffers() if n in saved}

    def moments(self) -> Tensors:
        """In parts, gathered one by one by DeepSpeed's own functions; the step is the same for all."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        steps = [state["step"] for state in self._trainer.session.optimizer.state.values() if "step" in state]
        found: Tensors = {}
        for name, parameter in trainable(self._trainer.model).items() if steps else ():
            for kind in _MOMENTS:
                found[f"{name}.{kind}"] = part_of(safe_get_full_optimizer_state(parameter, kind), self._mesh)
            found[f"{name}.step"] = torch.tensor(float(max(steps)))
            if parameter.dtype != torch.float32:
                found[f"{name}.{MASTER}"] = part_of(safe_get_full_fp32_param(parameter), self._mesh)
        return found

    def end(self) -> Tensors:
        """Weights in parts in the host's memory again, and nothing left of DeepSpeed; the moments, in parts, too."""
        model = self._trainer.model
        # Both are taken from DeepSpeed before it is let go.
        weights, moments = self.weights(), self.moments()
        for name, parameter in list(model.named_parameters()):
            self._places.put(name, Parameter(weights.pop(name), parameter.requires_grad))
        self._places.restore()
        _move_buffers(model, torch.device("cpu"))
        _let_go(self._trainer)
        return moments


class _Begin(TrainerCallback):
    """Hands the moments over once model and optimizer are laid out."""

    def __init__(self, engine: InEngine) -> None:
        self._engine = engine

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by transformers before the first step, when accelerate has laid the model out."""
        self._engine.begin()


class _Partition:
    """Has DeepSpeed keep this rank's part of a whole parameter, which is freed."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._first: Any = None

    def __call__(self, parameter: torch.nn.Parameter) -> None:
        """In place. Every rank has to have the same."""
        from deepspeed import init_distributed, zero

        if self._first is not None:
            self._first.convert_to_zero_parameters(param_list=[parameter])
            return
        # It finds the ranks that have met; until then it takes itself for alone.
        init_distributed(auto_mpi_discovery=False)
        # DeepSpeed takes a module; the parameters after the first one join it.
        alone = torch.nn.Module()
        alone.register_parameter("first", parameter)
        zero.Init(module=alone, dtype=parameter.dtype, config_dict_or_path=self._config)
        self._first = parameter


def _gathered(parameter: torch.nn.Parameter) -> Tensor:
    """A parameter that DeepSpeed has, whole, where it is computed with: its float32 one where there is one."""
    from deepspeed import zero
    from deepspeed.utils import safe_get_full_fp32_param

    value = safe_get_full_fp32_param(parameter) if parameter.requires_grad else None
    if value is not None:
        return value
    # ZeRO 3 marks what it has partitioned by `ds_id`. What was gathered is freed on leaving: hence the copy.
    with zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
        return parameter.detach().clone()


def _set(parameter: torch.nn.Parameter, kind: str, value: Tensor) -> None:
    """Give DeepSpeed a moment or the float32 master of one parameter; `value` is whole, in the parameter's shape."""
    from deepspeed import utils

    if not hasattr(parameter, "ds_id"):
        if kind == MASTER:
            utils.safe_set_full_fp32_param(parameter, value)
        else:
            utils.safe_set_full_optimizer_state(parameter, value, kind)
        return
    # ZeRO 3 keeps flat parts of one size, the last one filled up; its function for whole values has no room for that.
    size = parameter.ds_tensor.numel()  # type: ignore[attr-defined]
    own, begin = torch.zeros(size, dtype=value.dtype, device=value.device), ranks.rank() * size
    values = value.flatten()[begin : begin + size]
    own[: len(values)] = values
    if kind == MASTER:
        utils.safe_set_local_fp32_param(parameter, own)
    else:
        utils.safe_set_local_optimizer_state(parameter, own, kind)


def _let_go(trainer: Any) -> None:
    """Free what a trainer that has ended still holds of DeepSpeed: its session may outlive it."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    # While it is set, other models would be loaded in DeepSpeed's parts.
    unset_hf_deepspeed_config()
    trainer.model_wrapped, trainer.deepspeed = trainer.model, None
    for holder in (trainer, trainer.callback_handler):
        holder.optimizer = holder.lr_scheduler = None
    trainer.accelerator.free_memory()
    # Engine, optimizer and parameters hold each other.
    gc.collect()


def _step_of_nothing(trainer: Any, engine: Any) -> None:
    ids: Tensor = torch.zeros(1, 2, dtype=torch.long, device=engine.device)
    loss = engine(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.sum() * 0.0
    trainer.accelerator.backward(loss)


def _move_buffers(model: Module, device: torch.device) -> None:
    """Buffers onto a device, in place."""
    for buffer in model.buffers():
        buffer.data = buffer.data.to(device)
