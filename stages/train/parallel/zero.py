"""DeepSpeed ZeRO 2 and 3, through transformers: the configurations lie beside this file."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.core.errors import UnavailableError
from stages.models.load import Policy
from stages.train.config import TrainConfig
from stages.train.masters import MASTER
from stages.train.optim import trainable
from stages.train.parallel.gather import Tensors, saved_buffers, whole_policy
from stages.train.parallel.layout import Layout

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Zero(Layout):
    """Gradients and moments are sharded (2), parameters too (3)."""

    sharded = True

    def __init__(self, name: str, reduce_dtype: str) -> None:
        if importlib.util.find_spec("deepspeed") is None:
            raise UnavailableError(f"--parallel {name} needs DeepSpeed", "pip install 'cosmo-rl[deepspeed]'")
        self.config = json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
        self._reduce = reduce_dtype

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

    def begin(self, trainer: Any, moments: Tensors) -> None:
        """DeepSpeed links the moments to parameters in the first step: one of nothing, at rate 0, then they are set."""
        optimizer, engine = trainer.session.optimizer, trainer.model_wrapped
        # ZeRO 2 links all groups after the step of the first, when the others would have none yet.
        for group in optimizer.param_groups:
            for flat in group["params"]:
                optimizer.state[flat] = {"step": torch.zeros((), device=flat.device)}
                optimizer.state[flat] |= {kind: torch.zeros_like(flat) for kind in _MOMENTS}
        if not moments:
            return
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            # AdamW's decay is a share of the rate, so it rests, too.
            group["lr"] = 0.0
        _step_of_nothing(trainer, engine)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        for name, parameter in trainable(trainer.model).items():
            for kind in _MOMENTS:
                if f"{name}.{kind}" in moments:
                    value = moments[f"{name}.{kind}"].to(engine.device)
                    safe_set_full_optimizer_state(parameter, value, kind)
            if f"{name}.{MASTER}" in moments:
                safe_set_full_fp32_param(parameter, moments[f"{name}.{MASTER}"].to(engine.device))
        steps = max(float(v) for n, v in moments.items() if n.endswith(".step"))
        for state in optimizer.state.values():
            # One for all: DeepSpeed's state is of flat groups and not of parameters.
            state["step"].fill_(steps)

    def weights(self, model: Any) -> Tensors:
        """The float32 ones where DeepSpeed keeps some."""
        from deepspeed import zero
        from deepspeed.utils import safe_get_full_fp32_param

        found: Tensors = {}
        for name, parameter in model.named_parameters():
            value = safe_get_full_fp32_param(parameter) if parameter.requires_grad else None
            if value is None:
                # ZeRO 3 marks what it has partitioned by `ds_id`. What was gathered is freed on leaving: hence the
                # copy.
                with zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
                    value = parameter.detach().clone()
            # As the policy's own dtype: the masters of bfloat16 weights go with the moments.
            found[name] = value.to("cpu", parameter.dtype)
        return found | saved_buffers(model)

    def moments(self, model: Any, optimizer: torch.optim.Optimizer) -> Tensors:
        """By DeepSpeed's own functions; the step is the same for all."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        steps = [state["step"] for state in optimizer.state.values() if "step" in state]
        if not steps:
            return {}
        found: Tensors = {}
        for name, parameter in trainable(model).items():
            found |= {f"{name}.{kind}": safe_get_full_optimizer_state(parameter, kind).cpu() for kind in _MOMENTS}
            found[f"{name}.step"] = torch.tensor(float(max(steps)))
            if parameter.dtype != torch.float32:
                found[f"{name}.{MASTER}"] = safe_get_full_fp32_param(parameter).cpu()
        return found

    def make_whole(
        self, policy: Policy, optimizer: torch.optim.AdamW, config: TrainConfig
    ) -> tuple[Policy, torch.optim.AdamW]:
        """A newly loaded model with these weights: every rank has all of it again."""
        # Both are gathered from the sharded model before it is let go.
        weights, moments = self.weights(policy.model), self.moments(policy.model, optimizer)
        return whole_policy(policy, config, weights, moments)


def _step_of_nothing(trainer: Any, engine: Any) -> None:
    ids: Tensor = torch.zeros(1, 2, dtype=torch.long, device=engine.device)
    loss = engine(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.sum() * 0.0
    trainer.accelerator.backward(loss)


def _skip_build() -> None:
    """On a CPU: no half-minute build of a shared-memory transport that gloo does without."""
    from deepspeed.ops import __compatible_ops__

    __compatible_ops__["deepspeed_shm_comm"] = False
