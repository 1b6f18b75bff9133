"""What the trainers over a fixed order of examples share: how they go through it, and each step's row."""

from __future__ import annotations

import hashlib
import time
from statistics import fmean
from typing import Any

import torch

from schemas.steps import LabelStat, StepRow
from stages.core.errors import UsageError
from stages.train.config import TrainConfig
from stages.train.session import Session


def one_pass(config: TrainConfig, micro: int, passes: int) -> dict[str, Any]:
    """TrainingArguments for one pass over the examples in the order they stand in, `passes` micro-batches a step."""
    return {
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": passes,
        # The order holds all epochs, and steps, already.
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        # TRL's trainers cut sequences, or leave them out, at 1,024 tokens by default.
        "max_length": None,
    }


def equal_passes(config: TrainConfig) -> dict[str, Any]:
    """`one_pass` for trainers that average over a micro-batch's pairs: these have to be equally many.

    UsageError where `batch_size` is no multiple of `micro_batch_size`.
    """
    micro = config.micro_batch_size or config.batch_size
    if config.batch_size % micro:
        raise UsageError(f"batch_size {config.batch_size} is no multiple of micro_batch_size {micro}", "make it one")
    return one_pass(config, micro, config.batch_size // micro)


def step_seed(seed: int, step: int) -> int:
    """A seed of its own for each optimizer step."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{step}".encode()).digest()[:7], "big")


class StepLog:
    """The examples of the step in hand, micro-batch by micro-batch, and the row they become."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: list[tuple[str, int]] = []
        self._began = 0.0

    def add(self, examples: list[tuple[str, int]]) -> bool:
        """One micro-batch more: (label, tokens learned from) of each example. False where there is none."""
        if not self._seen:
            self._began = time.monotonic()
            # Dropout, where a model has it, depends on the step alone: a resumed run draws the same.
            torch.manual_seed(step_seed(self._session.config.seed, self._session.step))
        self._seen += examples
        return bool(examples)

    def record(self, logs: dict[str, float], **more: Any) -> None:
        """What a trainer logged, as the step's row; anything but a step's log is passed over."""
        # transformers logs once more at the end, with totals.
        if "grad_norm" not in logs:
            return
        self._seen = [example for part in self._session.all_gather(self._seen) for example in part]
        by_label: dict[str, list[int]] = {}
        for label, length in self._seen:
            by_label.setdefault(label, []).append(length)
        lengths = [length for _, length in self._seen]
        self._session.record(
            StepRow(
                objective=self._session.config.objective,
                step=self._session.step + 1,
                rollout=0,
                update=0,
                loss=logs["loss"],
                grad_norm=logs["grad_norm"],
                learning_rate=logs["learning_rate"],
                tokens=sum(lengths),
                groups=len(lengths),
                completion_length=fmean(lengths) if lengths else None,
                seconds=time.monotonic() - self._began,
                labels=[
                    LabelStat(label=label, completions=len(of_label), length=fmean(of_label))
                    for label, of_label in sorted(by_label.items())
                ],
                **more,
            )
        )
        self._seen = []
