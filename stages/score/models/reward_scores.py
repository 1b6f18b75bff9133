"""One number a completion from a loaded reward model."""

from __future__ import annotations

import torch

from schemas.rollouts import RolloutGroup
from stages.models.load import Policy


def sequences(policy: Policy, group: RolloutGroup, completions: list[str]) -> list[list[int]]:
    """The token ids of the prompt with each completion, as `cosmo train --objective reward` gives them to the model.

    Raises BadSample where this model can't take the prompt.
    """
    prompt = policy.processor.encode(group.messages, group.images).token_ids
    return [prompt + policy.processor.encode_completion(completion) for completion in completions]


def scalars(policy: Policy, rows: list[list[int]], batch_tokens: int) -> list[float]:
    """The model's number for each row, in their order.

    Rows of like length share a batch of at most `batch_tokens` positions, where one row alone does not need more.
    """
    # Longest last, and taken from the end: the first batch shows at once whether memory suffices.
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found = [0.0] * len(rows)
    with torch.inference_mode():
        while order:
            size = max(1, batch_tokens // len(rows[order[-1]]))
            batch, order = order[-size:], order[:-size]
            for i, value in zip(batch, _forward(policy, [rows[i] for i in batch]), strict=True):
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
