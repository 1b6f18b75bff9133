"""AdamW and its schedule, and their state by parameter name: what is carried from one run to the next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stages.core.errors import UsageError
from stages.models.families import family_of, language_parts
from stages.train.config import TrainConfig, peak_rate
from stages.train.masters import MASTER, MasterAdamW

STATE = ("exp_avg", "exp_avg_sq", "step", MASTER)
"""What the optimizer keeps of each parameter; a master of those alone that have fewer digits than float32."""


def trainable(model: Any) -> dict[str, torch.nn.Parameter]:
    """Parameters that get gradients, by name; tied ones once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def set_frozen(model: Any, freeze_vision: bool, freeze_language: bool = False) -> None:
    """Make every parameter trainable, or all but the vision tower's, the language model's, or both.

    With the language model go embeddings and the output head; what joins a tower to it stays trainable, which is how
    LLaVA begins (arXiv:2304.08485, section 4.2). UsageError where nothing is left.
    """
    model.requires_grad_(True)
    _always_differentiable(model.get_input_embeddings(), freeze_language)
    # A family without a tower gives the model itself, all of which is trained then.
    tower = family_of(model).tower(model)
    if freeze_vision and tower is not model:
        tower.requires_grad_(False)
    if not freeze_language:
        return
    for part in language_parts(model):
        part.requires_grad_(False)
    if not trainable(model):
        seen = "its vision tower is frozen, too" if tower is not model else "it has no vision tower"
        raise UsageError(
            f"freeze_language leaves nothing of {type(model).__name__} to train: {seen}",
            "--set freeze_language=false, or --set freeze_vision=false",
        )


def _always_differentiable(embeddings: torch.nn.Module | None, wanted: bool) -> None:
    """Have whatever comes of the embeddings take part in gradients, though they are frozen, or no longer.

    A micro-batch without images would have nothing to go back to, which ends autograd, and DDP's reduction with it.
    """
    if embeddings is None:
        return
    for key, hook in list(embeddings._forward_hooks.items()):
        if hook is _with_gradient:
            del embeddings._forward_hooks[key]
    if wanted:
        embeddings.register_forward_hook(_with_gradient)


def _with_gradient(module: torch.nn.Module, given: object, output: Tensor) -> Tensor | None:
    if output.requires_grad or not torch.is_grad_enabled():
        return None
    # A copy: some families write images' features into it in place, which a leaf would not allow.
    return output.requires_grad_().clone()


def make_optimizer(model: Any, config: TrainConfig, state: Mapping[str, Tensor]) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, decay on matrices only, with the state of those that have one."""
    named = trainable(model)
    # Scales of norms and biases are left out, as usual: decay would pull them to 0 and regularise nothing.
    matrices = [p for p in named.values() if p.dim() >= 2]
    vectors = [p for p in named.values() if p.dim() < 2]
    coarse = config.masters and any(p.dtype != torch.float32 for p in named.values())
    optimizer = (MasterAdamW if coarse else torch.optim.AdamW)(
        [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=peak_rate(config),
        betas=(config.beta1, config.beta2),
        eps=config.adam_epsilon,
        # One kernel a tensor: a quarter of the loop's time on a CPU.
        fused=next(iter(named.values())).device.type in ("cpu", "cuda"),
    )
    for name, parameter in named.items():
        # Adapters of another rank have moments of another shape; the fused kernel would not look.
        if f"{name}.step" in state and state[f"{name}.exp_avg"].shape == parameter.shape:
            given = {kind: state[f"{name}.{kind}"] for kind in STATE if f"{name}.{kind}" in state}
            # Copied: AdamW writes into its state, and what fits already is the very same tensor.
            optimizer.state[parameter] = {k: v.clone() for k, v in fitting(optimizer, parameter, given).items()}
    return optimizer


def fitting(optimizer: torch.optim.Optimizer, parameter: Tensor, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """A parameter's saved state as its optimizer wants it: where the parameter is, moments in their dtype."""
    coarse = isinstance(optimizer, MasterAdamW)
    moments = torch.float32 if coarse else parameter.dtype
    return {
        kind: value.to(parameter.device, moments if kind.startswith("exp_") else torch.float32)
        for kind, value in given.items()
        # Masters of another run's coarser weights are left out.
        if kind != MASTER or (coarse and parameter.dtype != torch.float32)
    }


def empty_state(optimizer: torch.optim.Optimizer, parameter: Tensor, kinds: list[str]) -> dict[str, Tensor]:
    """A place for a parameter's saved state, of the kinds that there are, as its optimizer wants them."""
    coarse = isinstance(optimizer, MasterAdamW)
    if parameter.dtype == torch.float32 or not coarse:
        kinds = [kind for kind in kinds if kind != MASTER]
    moments = torch.float32 if coarse else parameter.dtype
    return {
        kind: torch.zeros((), device=parameter.device)
        if kind == "step"
        else torch.zeros_like(parameter, dtype=moments if kind.startswith("exp_") else torch.float32)
        for kind in kinds
    }


def optimizer_state(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """`<parameter>.exp_avg`, `.exp_avg_sq`, `.step` and perhaps `.master` of every parameter that has been stepped."""
    # By name, unlike `optimizer.state_dict()`, which counts parameters: with a tower frozen, adapters in place or
    # another layout the count is another.
    return {
        f"{name}.{kind}": optimizer.state[p][kind].detach().cpu()
        for name, p in trainable(model).items()
        if p in optimizer.state
        for kind in STATE
        if kind in optimizer.state[p]
    }


def rate_factor(step: int, *, shape: str, warmup: int, total: int, floor: float) -> float:
    """The share of the peak rate used in optimizer step `step` (from 0): a pure function of the step.

    So stopping, resuming and chaining runs can't shift it.

    Linear warm-up to 1 over `warmup` steps, then `cosine` or `linear` down to `floor` at step `total`, and
    `floor` from there on. `constant`, or a `total` of 0, stays at 1.
    """
    # From 1 / warmup: at a rate of 0 the first step would move the moments and nothing else.
    if step < warmup:
        return (step + 1) / warmup
    if shape == "constant" or total <= 0:
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    if shape == "cosine":
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
    if shape == "linear":
        return floor + (1.0 - floor) * (1.0 - progress)
    raise ValueError(f"unknown schedule {shape!r}")


def make_scheduler(
    optimizer: torch.optim.Optimizer, config: TrainConfig, first_step: int, total: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """The schedule from optimizer step `first_step` of the lineage on (from 0)."""

    # LambdaLR counts from 0 in each trainer, and every rollout has a trainer of its own.
    def factor(local: int) -> float:
        return rate_factor(
            first_step + local,
            shape=config.schedule,
            warmup=config.warmup_steps,
            total=total,
            floor=config.min_rate_ratio,
        )

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
