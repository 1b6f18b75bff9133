"""Attention over packed groups by one kernel for all of them: variable-length attention, for GPUs in half precision.

Every prompt and every completion is a sequence of its own. A completion's keys are its prompt's, then its own; the
kernel (`torch.nn.attention.varlen`, FlashAttention) aligns a causal mask at the end of the keys, so that a completion's
token sees its prompt and its own past. Nothing is padded, nothing is computed between sequences, and the number of
groups costs no launches. It knows no CPU and no float32: `packed_attention` goes block by block there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from stages.core.errors import first_line
from stages.models.attention.packed_attention import block_by_block, packed_attention
from stages.models.attention.packing import PackedGroup, Packing
from stages.models.families import VARLEN, WINDOWS, family_of, has_windows

Kernel = Callable[..., Any]
_HALF = (torch.bfloat16, torch.float16)


def packed_varlen(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    packed: Packing | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """`query` (1, H, L, D), `key` and `value` (1, Hkv, L, D); the output (1, L, H, D). As `packed_attention`."""
    kind = query.device.type
    if torch.is_autocast_enabled(kind):
        # Rotations leave queries and keys in float32; `sdpa` would cast them itself.
        query, key, value = (t.to(torch.get_autocast_dtype(kind)) for t in (query, key, value))
    if packed is None or query.dtype not in _HALF:
        return packed_attention(module, query, key, value, attention_mask, scaling, packed, **kwargs)
    return attend(packed, query, key, value, scaling), None


def attend(
    packed: Packing, query: Tensor, key: Tensor, value: Tensor, scale: float | None, kernel: Kernel = varlen_attn
) -> Tensor:
    """`query` (1, H, L, D), `key` and `value` (1, Hkv, L, D); the output (1, L, H, D)."""
    query_LHD = query[0].transpose(0, 1)
    keys, values = (_with_prompts(packed, t[0].transpose(0, 1)) for t in (key, value))
    out_LHD = kernel(
        query_LHD,
        keys,
        values,
        *packed.starts(query.device),
        max(packed.queries),
        max(packed.keys),
        scale=scale,
        # Any distance back and none ahead, from the end of the keys: causal.
        window_size=(-1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out_LHD[None]


def _with_prompts(packed: Packing, values_LHD: Tensor) -> Tensor:
    """Each prompt's, then before each completion's its prompt's again. Its backward adds up in a fixed order."""
    parts = iter(values_LHD.split(packed.queries))
    found = []
    for group in packed.groups:
        prompt = next(parts)
        found.append(prompt)
        for _ in group.completions:
            found += [prompt, next(parts)]
    return torch.cat(found)


def unusable_reason(model: Any, device: torch.device, kernel: Kernel = varlen_attn) -> str | None:
    """Why the kernel can't be used for a model on a device; None where it gives what block by block gives.

    Tried on small packed groups with the model's own heads in bfloat16, backward too: an old GPU has no kernel, a
    build may lack it, and one that aligned its mask otherwise would train on nonsense.
    """
    if VARLEN not in family_of(model).kernels:
        return f"not known to work for {model.config.model_type}"
    if has_windows(model):
        return WINDOWS
    text = model.config.get_text_config()
    heads = text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    generator = torch.Generator().manual_seed(0)
    packed = Packing([PackedGroup(5, [3, 7]), PackedGroup(9, [4])])
    length = sum(packed.queries)
    exact = [
        torch.randn(1, h, length, size, generator=generator).to(device)
        for h in (heads, text.num_key_value_heads, text.num_key_value_heads)
    ]
    weights = torch.randn(1, length, heads, size, generator=generator).to(device)
    try:
        expected = _with_gradients(lambda q, k, v: block_by_block(packed, q, k, v, None), exact, weights)
        halves = [t.bfloat16() for t in exact]
        found = _with_gradients(lambda q, k, v: attend(packed, q, k, v, None, kernel), halves, weights)
    # A build without the kernel, a GPU too old, a head size that it does not take: reasons to use blocks, and no error.
    except (RuntimeError, NotImplementedError, ValueError) as error:
        return first_line(error)
    worst = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(expected, found, strict=True))
    # bfloat16 has three digits; another mask is off by about 1.
    return None if worst < 0.05 else f"its numbers are {worst:.0%} off"


def _with_gradients(attention: Kernel, given: list[Tensor], weights: Tensor) -> list[Tensor]:
    """The output, and the gradients of its weighted sum, in float32."""
    inputs = [t.clone().requires_grad_() for t in given]
    # Autocast would turn the blocks, which are the measure, into bfloat16 as well.
    with torch.enable_grad(), torch.autocast(weights.device.type, enabled=False):
        out = attention(*inputs).float()
        return [t.detach().float() for t in (out, *torch.autograd.grad((out * weights).sum(), inputs))]


AttentionInterface.register(VARLEN, packed_varlen)
# As for the blocks: no mask function of this name would mean no mask.
AttentionMaskInterface.register(VARLEN, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
