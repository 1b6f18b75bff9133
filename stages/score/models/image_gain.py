"""How much likelier completions are with a row's images than without them, under a loaded policy."""

from __future__ import annotations

from dataclasses import replace

import torch

from schemas.rollouts import RolloutGroup
from schemas.values import Message
from stages.models.families import prompt_positions
from stages.models.forward_inputs import kept_logits
from stages.models.load import Policy
from stages.models.processor import Encoded


def words_only(messages: list[Message]) -> list[Message]:
    """The conversation without its images."""
    return [replace(m, content=[part for part in m.content if part.type != "image"]) for m in messages]


def image_gain(policy: Policy, group: RolloutGroup, completions: list[str], batch_tokens: int) -> list[float]:
    """Mean over a completion's tokens of log p(token | images, words) - log p(token | words), in nats; one a
    completion.

    Raises BadSample where this model can't take the prompt.
    """
    ids = [policy.processor.encode_completion(completion) for completion in completions]
    seeing = policy.processor.encode(group.messages, group.images)
    blind = policy.processor.encode(words_only(group.messages), [])
    with_images = mean_logprobs(policy, seeing, ids, batch_tokens)
    without = mean_logprobs(policy, blind, ids, batch_tokens)
    return [a - b for a, b in zip(with_images, without, strict=True)]


def mean_logprobs(policy: Policy, prompt: Encoded, completions: list[list[int]], batch_tokens: int) -> list[float]:
    """Each completion's mean log-prob a token after the prompt, at temperature 1, no token banned.

    At most `batch_tokens` positions are computed at once, where one completion alone does not need more.
    """
    longest = len(prompt.token_ids) + max(len(completion) for completion in completions)
    size = max(1, batch_tokens // longest)
    means: list[float] = []
    with torch.inference_mode():
        for at in range(0, len(completions), size):
            means += _forward(policy, prompt, completions[at : at + size])
    return means


def _forward(policy: Policy, prompt: Encoded, completions: list[list[int]]) -> list[float]:
    start = len(prompt.token_ids)
    rows = [prompt.token_ids + completion for completion in completions]
    # Padded on the right, so that every completion begins at the same column, right behind the prompt.
    batch = policy.processor.batch(rows, [prompt.image_inputs] * len(rows), side="right")
    batch = {name: value.to(policy.device) for name, value in batch.items()}
    positions, _ = prompt_positions(policy.model, batch)
    # Only the positions that predict a completion's tokens go through the head.
    keep_T = torch.arange(start - 1, batch["input_ids"].shape[1] - 1, device=policy.device)
    asked = {**batch, "position_ids": positions, "logits_to_keep": keep_T, "use_cache": False}
    logits_NTV = kept_logits(policy.model, policy.model, asked)
    ids_NT = batch["input_ids"][:, start:]
    # In float32: log-probs in bfloat16 have two or three digits, and the difference of two of them fewer.
    logprobs_NT = logits_NTV.float().log_softmax(-1).gather(-1, ids_NT[..., None]).squeeze(-1)
    mask_NT = batch["attention_mask"][:, start:]
    found: list[float] = ((logprobs_NT * mask_NT).sum(-1) / mask_NT.sum(-1)).tolist()
    return found
