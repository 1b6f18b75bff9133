"""Where tokens stand: position ids for prompts with and without images."""

from __future__ import annotations

from typing import Any

import torch


def prompt_positions(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Position ids of a padded batch, and the position that follows each row.

    (B, L), or (3, B, L) for M-RoPE models (Qwen2-VL, arXiv:2409.12191, section 2.1), where an image takes as many
    positions as its longer side has merged patches; and (B,). Given explicitly to every forward, because such models
    otherwise remember the offsets of the last batch that had images.
    """
    mask_BL = batch["attention_mask"]
    rope_index = getattr(model.base_model, "get_rope_index", None)
    if rope_index is not None and "image_grid_thw" in batch:
        positions_3BL, _ = rope_index(
            batch["input_ids"],
            mm_token_type_ids=batch["mm_token_type_ids"],
            image_grid_thw=batch["image_grid_thw"],
            attention_mask=mask_BL,
        )
        return positions_3BL, positions_3BL.amax(dim=(0, 2)) + 1
    positions_BL = (mask_BL.cumsum(-1) - 1).clamp(min=0)
    following_B = mask_BL.sum(-1)
    if rope_index is not None:
        return positions_BL.expand(3, -1, -1), following_B
    return positions_BL, following_B


def next_positions(model: Any, following_B: torch.Tensor, step: int) -> torch.Tensor:
    """Position ids of each row's `step`-th token after its prompt: (B, 1), or (3, B, 1) for M-RoPE models."""
    positions_B1 = (following_B + step).unsqueeze(-1)
    return positions_B1.expand(3, -1, -1) if hasattr(model.base_model, "get_rope_index") else positions_B1
