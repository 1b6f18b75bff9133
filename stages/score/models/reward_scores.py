"""One number a completion from a loaded reward model."""

from __future__ import annotations

import time

import torch

from schemas.rollouts import RolloutGroup
from stages.core.runs.halved import Halved
from stages.engines.base import batch_failed
from stages.models.load import Policy


def sequences(policy: Policy, group: RolloutGroup, completions: list[str]) -> list[list[int]]:
    """The token ids of the prompt with each completion, as `cosmo train --objective reward` gives them to the model.

    Raises BadSample where this model can't take the prompt.
    """
    prompt = policy.processor.encode(group.messages, group.images).token_ids
    return [prompt + policy.processor.encode_completion(completion) for completion in completions]


def scalars(
    policy: Policy, rows: list[list[int]], batch_tokens: int, halved: Halved | None = None
) -> list[float | str]:
    """The model's number for each row, in their order; for a row that fails alone, why.

    Rows of like length share a batch of at most `batch_tokens` positions, where one row alone does not need more. A
    batch that fails is halved, and `halved` counts it.
    """
    counts = halved or Halved()
    # Longest last, and taken from the end: the first batch shows at once whether memory suffices.
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: list[float | str] = [0.0] * len(rows)
    waiting: list[list[int]] = []
    with torch.inference_mode():
        while waiting or order:
            if not waiting:
                size = max(1, batch_tokens // len(rows[order[-1]]))
                waiting, order = [order[-size:]], order[:-size]
                counts.planned += 1
            batch, began = waiting.pop(), time.monotonic()
            try:
                values: list[float | str] = [*_forward(policy, [rows[i] for i in batch])]
            except Exception as error:
                # Whatever a model's forward raises over one row must not cost the others.
                reason = batch_failed(error)
                if len(batch) > 1:
                    counts.add(reason, time.monotonic() - began)
                    waiting += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
                    continue
                values = [reason]
            for i, value in zip(batch, values, strict=True):
                found[i] = value
    return found


def _forward(policy: Policy, rows: list[list[int]]) -> list[float]:
    # The head reads the last token that is no padding, which the model tells by its config.
    if policy.model.config.pad_token_id is None:
        policy.model.config.pad_token_id = policy.processor.pad_token_id
    batch = policy.processor.batch(rows, [], side="right")
    logits_N1 = policy.model(**{name: value.to(policy.device) for name, value in batch.items()}).logits
    values: list[float] = logits_N1[:, 0].float().tolist()
    return values
