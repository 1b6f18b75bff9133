"""Log-probs of stored completions under a model: once for each completion, or with their prompt shared.

`completion_logprobs` is the one way in. It gives log-probs at the sampling temperature with the sampler's
banned tokens removed, so that a trainer's numbers mean what the sampler's do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.models.attention.shared_inputs import TokenGroup, packed_inputs, padded_inputs
from stages.models.processor import PromptProcessor
from stages.train.rl.token_scores import TokenScorer, project


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Scores of N completions, padded to the longest (T)."""

    logprobs_NT: Tensor
    """Log-prob of each token, 0 at padding."""
    entropy_NT: Tensor
    """Entropy of the distribution it was drawn from, nats, 0 at padding; no gradient."""
    mask_NT: Tensor
    """1.0 where there is a token."""


Forward = Callable[..., Any]


def completion_logprobs(
    model: Any,
    processor: PromptProcessor,
    groups: list[TokenGroup],
    banned: list[int],
    *,
    share: bool,
    forward: Forward | None = None,
) -> TokenLogprobs:
    """Log-probs and entropies of every completion of the groups, in order. N = completions of all groups.

    `share` computes each prompt once for all its completions (see `shared_inputs`); both ways agree to rounding.
    `forward` is what is called in place of `model`, when a trainer has wrapped it.
    """
    device = next(model.parameters()).device
    completions = [torch.tensor(c) for g in groups for c in g.completions]
    if processor.family.images_alone:
        # One group with one completion each: a prompt's images would be there once for every completion of it.
        groups = [
            TokenGroup(g.prompt, g.image_inputs, [c], [t])
            for g in groups
            for c, t in zip(g.completions, g.temperatures, strict=True)
        ]
    parts = [list(range(len(groups)))] if share else processor.batches.apart([g.image_inputs for g in groups])
    # Images that can't be in one forward: prompts whose images can, at a time.
    scored = [
        _one_forward(model, processor, [groups[i] for i in part], banned, share, forward or model) for part in parts
    ]
    logprobs_M, entropy_M = _in_order(scored, parts, groups)
    lengths_N = torch.tensor([len(c) for c in completions], device=device)
    present_NT = torch.arange(max(map(len, completions)), device=device) < lengths_N[:, None]
    entropy_NT = _spread(entropy_M.detach(), present_NT)
    return TokenLogprobs(_spread(logprobs_M, present_NT), entropy_NT, present_NT.float())


def _one_forward(
    model: Any, processor: PromptProcessor, groups: list[TokenGroup], banned: list[int], share: bool, forward: Forward
) -> Tensor:
    """(2, M): log-prob and entropy of every token of the groups' completions, in order."""
    device = next(model.parameters()).device
    build = packed_inputs if share else padded_inputs
    kwargs, flat_M = build(model, processor, groups, device)
    completions = [torch.tensor(c) for g in groups for c in g.completions]
    # A greedy sampler's log-probs are of the undivided distribution, as the engines store them.
    temperatures = [t or 1.0 for g in groups for t in g.temperatures]
    each = [torch.full(c.shape, t) for c, t in zip(completions, temperatures, strict=True)]
    scorer = TokenScorer(
        torch.cat(completions).to(device),
        torch.cat(each).to(device) if any(t != 1.0 for t in temperatures) else None,
        torch.tensor(banned, dtype=torch.long, device=device),
    )
    width = kwargs["input_ids"].shape[1]
    # `logits_to_keep` takes columns, the same for all rows: what one row needs is kept for each.
    keep_K, column_M = np.unique(flat_M % width, return_inverse=True)
    # One flat row a token: rows of the batch that `logits_to_keep` left K columns of.
    row_M = torch.tensor(flat_M // width * len(keep_K) + column_M, device=device)
    kwargs |= {"logits_to_keep": torch.tensor(keep_K, device=device), "use_cache": False}
    return project(model, forward, kwargs, scorer, row_M)


def _in_order(scored: list[Tensor], parts: list[list[int]], groups: list[TokenGroup]) -> Tensor:
    """The parts' (2, M) as one, tokens in the order of the groups."""
    if len(scored) == 1:
        return scored[0]
    by_group: dict[int, Tensor] = {}
    for values_2M, part in zip(scored, parts, strict=True):
        sizes = [sum(map(len, groups[i].completions)) for i in part]
        by_group |= dict(zip(part, values_2M.split(sizes, dim=1), strict=True))
    return torch.cat([by_group[i] for i in range(len(groups))], dim=1)


def _spread(values_M: Tensor, present_NT: Tensor) -> Tensor:
    """Values of the present tokens at their places, 0 elsewhere."""
    return values_M.new_zeros(present_NT.shape).masked_scatter(present_NT, values_M)
