"""Attention over packed groups, block by block: no work on pairs that may not see each other.

In a packed sequence [prompt | c1 | ... | cG | prompt | c1 | ...] a prompt token sees its own past in the prompt, and a
completion token the whole of its prompt and its own past. Where the family has it so, tokens of one image see each
other, and a layer with a window sees no further back than that. A dense mask computes all L x L pairs and hides most.
Here a group costs P x P + G x R x (P + R) pairs, and groups cost nothing between each other. Everything goes through
`scaled_dot_product_attention`, so each device brings its own kernels; the function is known to transformers by its
public attention registry, and without a layout it is plain `sdpa`, so a model may keep it while it samples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from stages.models.attention.packing import PackedGroup, Packing
from stages.models.attention.shared_prefix import SharedPrefix
from stages.models.families import BLOCKS, VARLEN


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    packed: Packing | None = None,
    prefix: SharedPrefix | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """`query` (1, H, L, D), `key` and `value` (1, Hkv, L, D); the output (1, L, H, D).

    `packed` is the keyword that a forward hands down to every attention layer; `prefix` another, for sampling, which
    knows no window. Without them this is `sdpa`, whose mask has the window.
    """
    if prefix is not None:
        return prefix.attend(module.layer_idx, query, key, value, scaling), None  # type: ignore[arg-type]
    if packed is None:
        plain = ALL_ATTENTION_FUNCTIONS["sdpa"]
        return plain(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    return block_by_block(packed, query, key, value, scaling, sliding_window), None


def block_by_block(
    packed: Packing, query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None = None
) -> Tensor:
    """`query` (1, H, L, D), `key` and `value` (1, Hkv, L, D); the output (1, L, H, D)."""
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = (t.repeat_interleave(repeats, dim=1) for t in (key, value))
    sizes = [group.tokens for group in packed.groups]
    parts = zip(packed.groups, *(t.split(sizes, dim=2) for t in (query, key, value)), strict=True)
    done: list[Tensor] = []
    for number, (group, q, k, v) in enumerate(parts):
        seen_PP = packed.seen_in_prompt(number, window, query.device)
        done += _group(group, q, k, v, scale, seen_PP, window)
    return torch.cat(done, dim=1)


def _group(
    group: PackedGroup,
    query_1HLD: Tensor,
    key_1HLD: Tensor,
    value_1HLD: Tensor,
    scale: float | None,
    seen_PP: Tensor | None,
    window: int | None,
) -> list[Tensor]:
    """The prompt's output (1, P, H, D), then that of its completions (1, sum of their tokens, H, D)."""
    sizes = [group.prompt, group.tokens - group.prompt]
    (prompt_q, completion_q), (prompt_k, completion_k), (prompt_v, completion_v) = (
        t.split(sizes, dim=2) for t in (query_1HLD, key_1HLD, value_1HLD)
    )
    prompt = scaled_dot_product_attention(
        prompt_q, prompt_k, prompt_v, attn_mask=seen_PP, is_causal=seen_PP is None, scale=scale
    )
    number, longest = len(group.completions), max(group.completions)
    keys, values = (
        torch.cat([before.expand(number, -1, -1, -1), _rows(own, group.completions)], dim=2)
        for before, own in ((prompt_k, completion_k), (prompt_v, completion_v))
    )
    # Query t stands behind the prompt and t tokens of its own; padding is at the end, where nobody looks.
    seen = torch.ones(longest, group.prompt + longest, dtype=torch.bool, device=keys.device).tril(group.prompt)
    if window is not None:
        seen = seen.triu(group.prompt + 1 - window)
    completions = scaled_dot_product_attention(
        _rows(completion_q, group.completions), keys, values, attn_mask=seen, scale=scale
    )
    return [prompt.transpose(1, 2), _flat(completions.transpose(1, 2), group.completions)]


def _rows(own_1HLD: Tensor, lengths: list[int]) -> Tensor:
    """Completions one after the other (1, H, L, D) as rows, padded at the end: (G, H, R, D)."""
    own_LHD = own_1HLD[0].transpose(0, 1)
    if len(set(lengths)) == 1:
        return own_LHD.unflatten(0, (len(lengths), lengths[0])).transpose(1, 2)
    return pad_sequence(list(own_LHD.split(lengths)), batch_first=True).transpose(1, 2)


def _flat(rows_GRHD: Tensor, lengths: list[int]) -> Tensor:
    """Rows without their padding, one after the other: (1, L, H, D)."""
    if len(set(lengths)) == 1:
        return rows_GRHD.flatten(0, 1)[None]
    return torch.cat([row[:length] for row, length in zip(rows_GRHD, lengths, strict=True)])[None]


AttentionInterface.register(BLOCKS, packed_attention)
# Without a mask function of the same name transformers would build no mask at all, and a model that keeps this
# attention while it samples would look at padding.
AttentionMaskInterface.register(BLOCKS, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


def use_packed_attention(model: Any, kernel: str | None = None) -> None:
    """Make the language model's attention layers take a layout; its vision tower stays as it is.

    `kernel` is BLOCKS or VARLEN; without, what the model has already, or else BLOCKS.
    """
    text = model.config.get_text_config()
    if text._attn_implementation in ((BLOCKS, VARLEN) if kernel is None else (kernel,)):
        return
    part = next((name for name in model.config.sub_configs if getattr(model.config, name) is text), None)
    chosen = kernel or BLOCKS
    # A model of words alone has no part for them: it is the language model.
    model.set_attn_implementation({part: chosen} if part else chosen)
