"""Prefix sharing: a prompt and its completions in one sequence [prompt | c1 | ... | cG], the prompt computed once.

Each completion's positions restart after the prompt (for M-RoPE after the prompt's largest position), and a 4-D
mask lets its tokens see the prompt and their own past only. The numbers are those of G separate sequences; the
tokens computed fall from G x (P + R) to P + G x R. Only public inputs of the models are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from stages.models.processor import PromptProcessor
    from stages.train.logprobs import TokenGroup

# Families whose forward takes a 4-D mask and explicit positions; a test compares each with the plain batch.
FAMILIES = ("qwen2_5_vl", "internvl", "llama", "qwen2")
_ATTENTION = ("sdpa", "eager")


def can_share(model: Any) -> bool:
    """True where the model's family and attention take a packed sequence, and every layer sees all of it."""
    text = model.config.get_text_config()
    full = set(getattr(text, "layer_types", None) or ["full_attention"]) == {"full_attention"}
    return model.config.model_type in FAMILIES and text._attn_implementation in _ATTENTION and full


def inputs(
    model: Any, processor: PromptProcessor, groups: list[TokenGroup], device: torch.device
) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Forward keywords with one row a group, the row of each completion (N,), and where it starts in it (N,)."""
    sequences = [g.prompt + [t for c in g.completions for t in c] for g in groups]
    batch = processor.batch(sequences, [g.image_inputs for g in groups], side="right")
    batch = {name: value.to(device) for name, value in batch.items()}
    rows, starts = [], []
    for row, group in enumerate(groups):
        at = len(group.prompt)
        for completion in group.completions:
            rows.append(row)
            starts.append(at)
            at += len(completion)
    segment_BL, offset_BL = _segments(groups, batch["input_ids"].shape[1])
    batch["position_ids"] = _positions(model, groups, batch, segment_BL.to(device), offset_BL.to(device))
    batch["attention_mask"] = _mask(segment_BL.to(device), model)
    return batch, torch.tensor(rows), torch.tensor(starts)


def predictors(start_N: Tensor, width: int, share: bool, groups: list[TokenGroup]) -> Tensor:
    """The position whose output predicts each token (N, width): the one before it, and the prompt's last for the first."""
    positions_NT = start_N[:, None] - 1 + torch.arange(width)
    if share:
        positions_NT[:, 0] = torch.tensor([len(g.prompt) - 1 for g in groups for _ in g.completions])
    return positions_NT


def _segments(groups: list[TokenGroup], width: int) -> tuple[Tensor, Tensor]:
    """For each place: 0 in the prompt, k in completion k, -1 in padding; and its offset inside the completion."""
    segment_BL = torch.full((len(groups), width), -1)
    offset_BL = torch.zeros(len(groups), width, dtype=torch.long)
    for row, group in enumerate(groups):
        at = len(group.prompt)
        segment_BL[row, :at] = 0
        for k, completion in enumerate(group.completions, start=1):
            segment_BL[row, at : at + len(completion)] = k
            offset_BL[row, at : at + len(completion)] = torch.arange(len(completion))
            at += len(completion)
    return segment_BL, offset_BL


def _positions(
    model: Any, groups: list[TokenGroup], batch: dict[str, Tensor], segment_BL: Tensor, offset_BL: Tensor
) -> Tensor:
    """(B, L), or (3, B, L) for M-RoPE: the prompt's own, then each completion from the prompt's maximum + 1."""
    place_BL = torch.arange(segment_BL.shape[1], device=segment_BL.device).expand_as(segment_BL)
    after_B1 = torch.tensor([[len(g.prompt)] for g in groups], device=segment_BL.device)
    rope_index = getattr(model.base_model, "get_rope_index", None)
    if rope_index is None or "image_grid_thw" not in batch:
        return torch.where(segment_BL > 0, after_B1 + offset_BL, place_BL.where(segment_BL == 0, 0))
    width = int(after_B1.max())
    prompt_3BP, _ = rope_index(
        batch["input_ids"][:, :width],
        mm_token_type_ids=batch["mm_token_type_ids"][:, :width],
        image_grid_thw=batch["image_grid_thw"],
        attention_mask=(segment_BL[:, :width] == 0).long(),
    )
    in_prompt_BP = segment_BL[:, :width] == 0
    after_B1 = prompt_3BP.masked_fill(~in_prompt_BP, -1).amax(dim=(0, 2))[:, None] + 1
    positions_3BL = (after_B1 + offset_BL).expand(3, -1, -1).clone()
    positions_3BL[:, :, :width] = torch.where(in_prompt_BP, prompt_3BP, positions_3BL[:, :, :width])
    return positions_3BL


def _mask(segment_BL: Tensor, model: Any) -> Tensor:
    """(B, 1, L, L): which places a place may look at. Padding sees itself, so that no row is empty."""
    width = segment_BL.shape[1]
    past_LL = torch.ones(width, width, dtype=torch.bool, device=segment_BL.device).tril()
    query_BL1, key_B1L = segment_BL[:, :, None], segment_BL[:, None, :]
    seen_B1LL = (past_LL & ((key_B1L == 0) | (key_B1L == query_BL1)))[:, None]
    if model.config.get_text_config()._attn_implementation == "sdpa":
        return seen_B1LL
    # Eager attention adds its mask to the scores.
    dtype = next(model.parameters()).dtype
    return torch.zeros(seen_B1LL.shape, dtype=dtype, device=seen_B1LL.device).masked_fill(
        ~seen_B1LL, torch.finfo(dtype).min
    )
