"""Prefix sharing: groups packed into one sequence [prompt | c1 | ... | cG | prompt | c1 | ...], without padding.

A prompt is computed once, its images with it. Each completion's positions restart after its prompt (for M-RoPE after
the prompt's largest position), and a completion's tokens see their prompt and their own past only: attention goes block
by block (`stages.models.attention.packed_attention`) or, on a GPU, all blocks go through one kernel
(`stages.models.attention.packed_varlen`). The numbers are those of separate sequences; the tokens computed fall from
G x (P + R) to P + G x R a group. Only public inputs of the models are used.

`padded_inputs` is the other way, right for any family: each completion with its own copy of the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.models.attention.packed_attention import use_packed_attention
from stages.models.attention.packing import PackedGroup, Packing
from stages.models.families import prompt_positions
from stages.models.forward_inputs import forward_names

if TYPE_CHECKING:
    from stages.models.processor import PromptProcessor


Indices = NDArray[np.int64]
"""Positions of tokens, on the CPU."""


@dataclass(frozen=True, slots=True)
class TokenGroup:
    """One prompt with the completions to be scored."""

    prompt: list[int]
    """Token ids of the prompt, image placeholders expanded. Shape (P,)."""
    image_inputs: dict[str, Tensor]
    """What the model wants for its images; {} without."""
    completions: list[list[int]]
    """Token ids of the completions, none empty."""
    temperatures: list[float] = field(default_factory=list)
    """The temperature each was sampled at; 0 (greedy) counts as 1. Empty where no log-prob is asked for."""


def packed_inputs(
    model: Any, processor: PromptProcessor, groups: list[TokenGroup], device: torch.device
) -> tuple[dict[str, Any], Indices]:
    """Forward keywords for one row, and the position that predicts each token of each completion in order (M,).

    The positions stay on the CPU: a GPU would be waited for to say which of them there are.
    """
    use_packed_attention(model)
    batches = processor.batches
    layout = [
        PackedGroup(len(g.prompt), [len(c) for c in g.completions], batches.both_ways(g.image_inputs)) for g in groups
    ]
    sequence = [t for g in groups for tokens in (g.prompt, *g.completions) for t in tokens]
    images = [batches.without_kinds(g.image_inputs) for g in groups]
    batch = {name: value.to(device) for name, value in processor.batch([sequence], images).items()}
    batch["position_ids"] = _positions(model, processor, groups, layout, device)
    # Anything 4-D is taken for a finished mask; the layout says what it would.
    batch["attention_mask"] = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
    return batch | {"packed": Packing(layout)}, _predictors(layout)


def _predictors(layout: list[PackedGroup]) -> Indices:
    """The position before each completion token; for a completion's first the prompt's last."""
    found = []
    for group, start in zip(layout, accumulate((g.tokens for g in layout), initial=0)):
        at = start + group.prompt
        for length in group.completions:
            found.append(np.arange(at - 1, at - 1 + length))
            found[-1][0] = start + group.prompt - 1
            at += length
    return np.concatenate(found)


def _positions(
    model: Any, processor: PromptProcessor, groups: list[TokenGroup], layout: list[PackedGroup], device: torch.device
) -> Tensor:
    """(1, L), or (3, 1, L) for M-RoPE: each prompt's own, then each of its completions from their maximum + 1."""
    prompts = processor.batch([g.prompt for g in groups], [g.image_inputs for g in groups], side="right")
    prompt_BP, following_B = prompt_positions(model, {name: value.to(device) for name, value in prompts.items()})
    parts = []
    for row, group in enumerate(layout):
        parts.append(prompt_BP[..., row, : group.prompt])
        offset_L = torch.cat([torch.arange(length, device=device) for length in group.completions])
        parts.append((following_B[row] + offset_L).expand(*prompt_BP.shape[:-2], -1))
    return torch.cat(parts, dim=-1).unsqueeze(-2)


def padded_inputs(
    model: Any, processor: PromptProcessor, groups: list[TokenGroup], device: torch.device
) -> tuple[dict[str, Any], Indices]:
    """Every completion with its own copy of the prompt and its images: right for any family.

    Forward keywords, and the flat position (row x width + column) that predicts each token (M,), on the CPU.
    """
    rows = [(g.prompt + c, g.image_inputs) for g in groups for c in g.completions]
    batch = processor.batch([ids for ids, _ in rows], [images for _, images in rows], side="right")
    kwargs = {name: value.to(device) for name, value in batch.items()}
    positions, _ = prompt_positions(model, kwargs)
    if (names := forward_names(model)) is None or "position_ids" in names:
        kwargs["position_ids"] = positions
    # A position's logits are of the token that follows it.
    starts = [len(g.prompt) - 1 for g in groups for _ in g.completions]
    lengths = [len(c) for g in groups for c in g.completions]
    width = kwargs["input_ids"].shape[1]
    flat = [row * width + np.arange(s, s + n) for row, (s, n) in enumerate(zip(starts, lengths, strict=True))]
    return kwargs, np.concatenate(flat)
