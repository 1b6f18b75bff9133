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
from stages.train.parallel.gather import Tensors, put_weights


class Layout(ABC):
    """One way to lay a model over the ranks. Where it is not `in_parts` the model is whole outside of training."""

    sharded: bool
    """While training no rank has all of it, and every forward is a meeting of all."""
    in_parts: bool = False
    """No rank ever has the whole model: it is read, kept in checkpoints and written part by part."""

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
        put_weights(model, weights)

    @abstractmethod
    def arguments(self, model: Any, autocast: bool) -> dict[str, Any]:
        """TrainingArguments that make transformers' Trainer lay the model out so."""

    def prepare(self, trainer: Any) -> None:  # noqa: B027
        """Before the trainer lays its model out; by default nothing."""

    def begin(self, trainer: Any, moments: Tensors) -> None:  # noqa: B027
        """Give the trainer, whose model is laid out by now, the moments; by default the optimizer has kept them."""

    @abstractmethod
    def weights(self, model: Any) -> Tensors:
        """Parameters by name, tied ones once, and the buffers that are saved with a model.

        Whole and on the CPU, or `in_parts`.
        """

    @abstractmethod
    def moments(self, model: Any, optimizer: torch.optim.Optimizer) -> Tensors:
        """The optimizer's state as `optimizer_state` names it: whole and on the CPU, or `in_parts`."""

    def make_whole(
        self, policy: Policy, optimizer: torch.optim.AdamW, config: TrainConfig
    ) -> tuple[Policy, torch.optim.AdamW]:
        """After training: the policy with its whole model in one place, and its optimizer; by default as they are."""
        return policy, optimizer
