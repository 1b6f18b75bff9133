"""Prefix sharing: a prompt and its completions in one sequence [prompt | c1 | ... | cG].

The prompt is computed once. Each completion's positions restart after it (for M-RoPE after its largest
position), and a 4-D mask lets a completion's tokens see the prompt and their own past only. The numbers are
those of G separate sequences; the tokens computed fall from G x (P + R) to P + G x R. Only public inputs of
the models are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stages.models.positions import prompt_positions

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
    """Forward keywords, one row a group; the row of each completion (N,), and where it starts there (N,)."""
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
    """The position whose output predicts each token (N, width): the one before it; the prompt's last for the
    first."""
    positions_NT = start_N[:, None] - 1 + torch.arange(width)
    if share:
        positions_NT[:, 0] = torch.tensor([len(g.prompt) - 1 for g in groups for _ in g.completions])
    return positions_NT


def _segments(groups: list[TokenGroup], width: int) -> tuple[Tensor, Tensor]:
    """For each place: 0 in the prompt, k in completion k, -1 in padding; and its offset in the completion."""
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
    """(B, L), or (3, B, L) for M-RoPE: the prompt's own, then each completion from its maximum + 1."""
    width = max(len(g.prompt) for g in groups)
    in_prompt_BP = segment_BL[:, :width] == 0
    prompt = {**batch, "input_ids": batch["input_ids"][:, :width], "attention_mask": in_prompt_BP.long()}
    if "mm_token_type_ids" in batch:
        prompt["mm_token_type_ids"] = batch["mm_token_type_ids"][:, :width]
    prompt_BP, following_B = prompt_positions(model, prompt)
    positions_BL = (following_B[:, None] + offset_BL).expand(*prompt_BP.shape[:-1], -1).clone()
    positions_BL[..., :width] = torch.where(in_prompt_BP, prompt_BP, positions_BL[..., :width])
    return positions_BL


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
