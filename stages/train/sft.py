"""Supervised fine-tuning on reference replies, through TRL's SFTTrainer with our own order and collation."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from schemas.prompts import PromptRow
from schemas.steps import LabelStat, StepRow
from stages.core.errors import BadSample, UsageError
from stages.models.processor import PromptProcessor
from stages.train.examples import ExampleRows, example_order, usable_entries
from stages.train.quiet import contained
from stages.train.session import Session

IGNORED = -100


def train_sft(session: Session) -> None:
    """Imitate the reference replies of the selected prompts."""
    config, ctx = session.config, session.ctx
    micro = config.micro_batch_size or config.batch_size
    if config.batch_size % micro:
        raise UsageError(f"batch_size {config.batch_size} is no multiple of micro_batch_size {micro}", "make it one")
    order = example_order(usable_entries(ctx.inputs, config, session.reject), config)
    steps = -(-len(order) // config.batch_size)
    ctx.progress.start("train", steps, "step")
    if session.rows:
        ctx.progress.advance(len(session.rows))
    rows = ExampleRows(ctx.inputs, order)
    if len(session.rows) < steps:
        with contained(session.policy.model):
            trainer = ReplyTrainer(
                session, rows, range(len(session.rows) * config.batch_size, len(order)), steps, micro
            )
            trainer.train()
    session.finish(rollouts=0)


def encode_example(processor: PromptProcessor, row: PromptRow) -> tuple[list[int], list[int], dict[str, Tensor]]:
    """(prompt ids, reply ids with the closing token, image inputs), the prompt as a rollout renders it."""
    encoded = processor.encode(row.messages, row.images)
    return encoded.token_ids, processor.encode_reply(row.reference_response or ""), encoded.image_inputs


def step_seed(seed: int, step: int) -> int:
    """A seed of its own for each optimizer step."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{step}".encode()).digest()[:7], "big")


class ReplyCollator:
    """Positions in the order to padded tensors, labels on the reply only. Unusable examples are left out."""

    def __init__(self, session: Session, rows: ExampleRows) -> None:
        self._session, self._rows = session, rows

    def __call__(self, examples: list[dict[str, int]]) -> dict[str, Any]:
        """The forward's keywords with `labels` (B, L), and `rows`: (label, reply tokens) of each example."""
        processor = self._session.policy.processor
        kept, encoded = [], []
        for example in examples:
            row = self._rows[example["position"]]
            try:
                encoded.append(encode_example(processor, row))
                kept.append(row)
            except BadSample as error:
                self._session.reject(self._rows.source(example["position"]), row.id, error.reason, error.detail)
        if not kept:
            return {"labels": torch.full((1, 2), IGNORED), "rows": []}
        sequences = [prompt + reply for prompt, reply, _ in encoded]
        batch = processor.batch(sequences, [images for _, _, images in encoded], side="right")
        labels_BL = torch.full_like(batch["input_ids"], IGNORED)
        for line, (prompt, reply, _) in enumerate(encoded):
            labels_BL[line, len(prompt) : len(prompt) + len(reply)] = torch.tensor(reply)
        return {
            **batch,
            "labels": labels_BL,
            "rows": [(r.label, len(e[1])) for r, e in zip(kept, encoded, strict=True)],
        }


class ReplyTrainer(SFTTrainer):
    """TRL's trainer over a slice of the precomputed order; its log becomes our rows."""

    def __init__(self, session: Session, rows: ExampleRows, positions: range, steps: int, micro: int) -> None:
        self.session = session
        self.seen: list[tuple[str, int]] = []
        self.began = 0.0
        config = session.config
        more = {
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": config.batch_size // micro,
            "num_train_epochs": 1,
            "train_sampling_strategy": "sequential",
            "max_length": None,
            "dataset_kwargs": {"skip_prepare_dataset": True},
        }
        super().__init__(
            model=session.policy.model,
            args=SFTConfig(**session.arguments(**more)),
            data_collator=ReplyCollator(session, rows),
            train_dataset=Dataset.from_dict({"position": list(positions)}),
            processing_class=session.policy.processor.tokenizer,
            optimizers=(session.optimizer, session.scheduler(config.schedule_steps or steps)),
        )
        self.remove_callback(PrinterCallback)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """TRL's step, without what only our rows need; nothing at all where no example was usable."""
        if not self.seen:
            self.began = time.monotonic()
            # Dropout, where a model has it, depends on the step alone: a resumed run draws the same.
            torch.manual_seed(step_seed(self.session.config.seed, self.session.step))
        rows = inputs.pop("rows")
        self.seen += rows
        if not rows:
            return torch.zeros((), device=self.args.device)
        return super().training_step(model, inputs, num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called after each step with its loss, gradient norm, rate, and TRL's entropy: the step's row."""
        super().log(logs, start_time)
        if "grad_norm" not in logs:
            return
        lengths = [length for _, length in self.seen]
        counts = Counter(label for label, _ in self.seen)
        by_label = {label: [n for name, n in self.seen if name == label] for label in counts}
        self.session.record(
            StepRow(
                objective="sft",
                step=self.session.step + 1,
                rollout=0,
                update=0,
                loss=logs["loss"],
                grad_norm=logs["grad_norm"],
                learning_rate=logs["learning_rate"],
                tokens=sum(lengths),
                groups=len(lengths),
                entropy=logs.get("entropy"),
                completion_length=fmean(lengths) if lengths else None,
                seconds=time.monotonic() - self.began,
                labels=[
                    LabelStat(label=label, completions=n, length=fmean(by_label[label]))
                    for label, n in sorted(counts.items())
                ],
            )
        )
        self.seen = []
