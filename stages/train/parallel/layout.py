"""How a model and its optimizer lie on the ranks, and how they are gathered again.

A layout gives weights and moments by parameter name for a checkpoint, whoever goes on from that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from stages.models.load import Policy
from stages.train.config import TrainConfig
from stages.train.optim import make_optimizer

Tensors = dict[str, Tensor]
"""Tensors by the name of the parameter or buffer that they belong to."""


class Layout(ABC):
    """One way to lay a model over the ranks."""

    sharded: bool
    """No rank has all of it and its optimizer: it is read, kept in checkpoints and written in parts (`parts.py`).

    Every forward is a meeting of all.
    """
    on_host: bool = False
    """Outside of training a rank has its part in the host's memory, not on its GPU."""
    takes_adapters: bool = True
    """Whether LoRA's adapters can be laid out."""

    @contextmanager
    def constructing(self, device: str, frozen: bool = False) -> Iterator[None]:
        """Around loading a model for `device`, `frozen` where it is not trained; by default nothing is different."""
        yield

    def lay_out_adapters(self, model: Any, device: torch.device) -> None:  # noqa: B027
        """After adapters were put into a model that was loaded within `constructing`; by default nothing."""

    def optimizer(self, model: Any, config: TrainConfig, moments: Mapping[str, Tensor]) -> torch.optim.AdamW:
        """The optimizer of a loaded model, with the moments that there are."""
        return make_optimizer(model, config, moments)

    def put_weights(self, model: Any, weights: Mapping[str, Tensor]) -> None:
        """Fill a loaded model from a checkpoint. KeyError for a name that it has not."""
        with torch.no_grad():
            there = dict(model.named_parameters()) | dict(model.named_buffers())
            for name, value in weights.items():
                # In place: the optimizer and tied layers hold these very tensors.
                there[name].copy_(value)

    @abstractmethod
    def arguments(self, model: Any, autocast: bool) -> dict[str, Any]:
        """TrainingArguments that make transformers' Trainer lay the model out so."""

    def prepare(self, trainer: Any) -> None:  # noqa: B027
        """Before the trainer lays its model out; by default nothing."""

    @abstractmethod
    def weights(self, model: Any) -> Tensors:
        """Parameters by name, tied ones once, and the buffers that are saved with a model.

        Whole and on the CPU, or in parts where it is sharded.
        """

    @abstractmethod
    def moments(self, model: Any, optimizer: torch.optim.Optimizer) -> Tensors:
        """The optimizer's state as `optimizer_state` names it: whole and on the CPU, or in parts."""

    def end(self, policy: Policy, optimizer: torch.optim.AdamW, config: TrainConfig) -> torch.optim.AdamW:
        """After a trainer: the policy's model as it was loaded, and its optimizer; by default they are."""
        return optimizer
