"""Which attention kernel computes shared prompts while a policy is trained."""

from __future__ import annotations

from typing import Any

import torch

from stages.models.attention import packed_varlen
from stages.models.attention.packed_attention import use_packed_attention
from stages.models.families import BLOCKS, VARLEN
from stages.train.config import TrainConfig, half_precision


def choose_kernel(models: list[Any], config: TrainConfig, device: torch.device) -> str | None:
    """Give the models the fastest attention that works for all of them; why not one kernel, where it was to be."""
    kernel, reason = BLOCKS, None
    if config.attention == "auto" and device.type == "cuda" and half_precision(config, device.type):
        reason = next((why for m in models if (why := packed_varlen.unusable_reason(m, device))), None)
        kernel = BLOCKS if reason else VARLEN
    for model in models:
        use_packed_attention(model, kernel)
    return reason
