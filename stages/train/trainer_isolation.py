"""Keeping what transformers' and TRL's trainers do to the world inside one `with` block."""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import deterministic as fill

from stages.core.errors import UnavailableError
from stages.core.resources import frozen_objects
from stages.train.config import TrainConfig, autocasts
from stages.train.parallel import ranks

if TYPE_CHECKING:
    from stages.models.load import Policy
    from stages.train.parallel.layout import Layout

_LOGGERS = ("transformers", "trl", "accelerate", "datasets")
# accelerate puts another forward on the model for mixed precision and keeps the first one; TRL adds tags for its model
# card.
_PATCHED = ("forward", "_original_forward", "model_tags")


def quiet_imports() -> None:
    """For before a trainer is imported: DeepSpeed, where it is installed, greets on stdout otherwise."""
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def training_arguments(config: TrainConfig, policy: Policy, layout: Layout, scratch: Path | None) -> dict[str, Any]:
    """TrainingArguments under which a trainer writes no files, reports nothing, and tells us of every step.

    UnavailableError where one process has several GPUs: the trainer would wrap the model in `DataParallel`.
    """
    device = policy.device
    if device.type == "cuda" and torch.cuda.device_count() > 1 and not torch.distributed.is_initialized():
        raise UnavailableError(
            f"one process, {torch.cuda.device_count()} GPUs: training uses one",
            f"--nproc {torch.cuda.device_count()}, or set CUDA_VISIBLE_DEVICES=0",
        )
    return {
        "output_dir": str(scratch),
        "report_to": "none",
        # Checkpoints are ours: a trainer's would not hold rows, rejected samples and alarms.
        "save_strategy": "no",
        "logging_strategy": "steps",
        "logging_steps": 1,
        # It would replace a loss that is no number by the mean of the others; a row says what it was.
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "log_level": "error",
        "use_cpu": device.type == "cpu",
        "ddp_timeout": int(ranks.TIMEOUT.total_seconds()),
        **layout.arguments(policy.model, autocasts(config, device.type)),
        "max_grad_norm": config.max_grad_norm,
        "gradient_checkpointing": config.gradient_checkpointing,
        "dataloader_pin_memory": device.type == "cuda",
        # Collators give more than the forward takes: it would be dropped before our hooks see it.
        "remove_unused_columns": False,
    }


@contextmanager
def isolated(model: Any, device: torch.device) -> Iterator[None]:
    """No talk and no traces: random state, logging, the model's forward and configs come out as they went in.

    A trainer seeds the global generators, wraps the model's forward and edits its config; a policy that stays
    warm must be as one freshly loaded. `device` is where it is trained.
    """
    from huggingface_hub import constants

    attributes = {name: model.__dict__[name] for name in _PATCHED if name in model.__dict__}
    configs = [(c, dict(vars(c))) for c in _configs(model)]
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    telemetry, constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_DISABLE_TELEMETRY, True
    deterministic = torch.are_deterministic_algorithms_enabled()
    filled = fill.fill_uninitialized_memory  # type: ignore[attr-defined]
    # On a CPU the same run gives the same bits; on a GPU that would cost too much.
    torch.use_deterministic_algorithms(deterministic or device.type == "cpu", warn_only=True)
    # Deterministic mode also fills every new tensor with NaN, to find reads of it: time for nothing here.
    fill.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        # A trainer collects garbage when it starts: 0.3 s over a million imported objects that are no garbage.
        with warnings.catch_warnings(), frozen_objects():
            # Also what `warn_only` says of an operation that has no deterministic kernel.
            warnings.simplefilter("ignore")
            for name in _LOGGERS:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = telemetry
        torch.use_deterministic_algorithms(deterministic)
        fill.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        for name in _PATCHED:
            model.__dict__.pop(name, None)
        model.__dict__.update(attributes)
        for config, values in configs:
            vars(config).clear()
            vars(config).update(values)
        if getattr(model, "is_gradient_checkpointing", False):
            model.gradient_checkpointing_disable()


def _configs(model: Any) -> list[Any]:
    """Every config object of a model and its parts, once, and its generation config."""
    found = [m.config for m in model.modules() if hasattr(m, "config")]
    found.append(getattr(model, "generation_config", None))
    return list({id(c): c for c in found if c is not None}.values())
