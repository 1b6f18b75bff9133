"""Weights by parameter name, whole and on the CPU: how every layout gives them, and how they get into a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stages.models.load import Policy, load_policy
from stages.train.config import TrainConfig, vision_frozen
from stages.train.optim import make_optimizer, set_frozen

Tensors = dict[str, Tensor]
"""Tensors by the name of the parameter or buffer that they belong to."""


def saved_buffers(model: Any) -> Tensors:
    """The buffers that are saved with a model, on the CPU; those made anew at loading are left out."""
    return {n: b.cpu() for n, b in model.state_dict().items() if n in dict(model.named_buffers())}


def put_weights(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Copy these into a whole model's parameters and buffers, in place. KeyError for a name that it has not."""
    with torch.no_grad():
        there = dict(model.named_parameters()) | dict(model.named_buffers())
        for name, value in weights.items():
            # In place: the optimizer and tied layers hold these very tensors.
            there[name].copy_(value)


def whole_policy(
    policy: Policy, config: TrainConfig, weights: Tensors, moments: Tensors
) -> tuple[Policy, torch.optim.AdamW]:
    """The policy with a whole model of these weights, in place of one that lies on several ranks; its optimizer."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    # While it is set, a model is loaded in shards.
    unset_hf_deepspeed_config()
    whole = load_policy(policy.ref, device="cpu", dtype=config.dtype, trust_remote_code=config.trust_remote_code)
    put_weights(whole.model, weights)
    set_frozen(whole.model, vision_frozen(config))
    return replace(whole, device=policy.device), make_optimizer(whole.model, config, moments)
