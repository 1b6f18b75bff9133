"""Log-probs of stored completions under a model: once for each completion, or with their prompt shared.

`completion_logprobs` is the one way in. It gives log-probs at the sampling temperature with the sampler's
banned tokens removed, so that a trainer's numbers mean what the sampler's do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from stages.models.positions import prompt_positions
from stages.models.processor import PromptProcessor
from stages.train import packed

# Not -inf: 0 * -inf would be NaN in the entropy, and exp of this is 0 all the same.
_BANNED = -1e9


@dataclass(frozen=True, slots=True)
class TokenGroup:
    """One prompt with the completions to be scored."""

    prompt: list[int]
    """Token ids of the prompt, image placeholders expanded. Shape (P,)."""
    image_inputs: dict[str, Tensor]
    """What the model wants for its pictures; {} without."""
    completions: list[list[int]]
    """Token ids of the completions, none empty."""
    temperatures: list[float]
    """The temperature each was sampled at; 0 (greedy) counts as 1."""


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

    `share` computes each prompt once for all its completions (see `packed`); both ways agree to rounding.
    `forward` is what is called in place of `model`, when a trainer has wrapped it.
    """
    forward = forward or model
    device = next(model.parameters()).device
    build = packed.inputs if share else _padded_inputs
    kwargs, row_N, start_N = build(model, processor, groups, device)
    completions = [torch.tensor(c) for g in groups for c in g.completions]
    ids_NT = pad_sequence(completions, batch_first=True).to(device)
    lengths_N = torch.tensor([len(c) for c in completions], device=device)
    present_NT = torch.arange(ids_NT.shape[1], device=device) < lengths_N[:, None]

    positions_NT = packed.predictors(start_N, ids_NT.shape[1], share, groups).to(device)
    low = int(positions_NT[present_NT].min())
    keep = torch.arange(low, int(positions_NT[present_NT].max()) + 1, device=device)
    logits_BKV = forward(**kwargs, logits_to_keep=keep, use_cache=False).logits

    rows_M = row_N.to(device)[:, None].expand_as(ids_NT)[present_NT]
    # One flat index_select: its backward adds up in a fixed order, that of indexing by two tensors does not.
    flat_M = rows_M * len(keep) + positions_NT[present_NT] - low
    logits_MV = logits_BKV.flatten(0, 1).index_select(0, flat_M).float()
    temperatures = [t or 1.0 for g in groups for t in g.temperatures]
    if any(t != 1.0 for t in temperatures):
        logits_MV = (
            logits_MV / torch.tensor(temperatures, device=device)[:, None].expand_as(ids_NT)[present_NT][:, None]
        )
    logprobs_M, entropy_M = _score(logits_MV, ids_NT[present_NT], banned)
    return TokenLogprobs(_spread(logprobs_M, present_NT), _spread(entropy_M, present_NT), present_NT.float())


def _score(logits_MV: Tensor, ids_M: Tensor, banned: list[int]) -> tuple[Tensor, Tensor]:
    if banned:
        logits_MV = logits_MV.index_fill(1, torch.tensor(banned, device=logits_MV.device), _BANNED)
    logprobs_MV = logits_MV.log_softmax(dim=-1)
    with torch.no_grad():
        entropy_M = -(logprobs_MV.exp() * logprobs_MV).sum(-1)
    return logprobs_MV.gather(1, ids_M[:, None]).squeeze(1), entropy_M


def _spread(values_M: Tensor, present_NT: Tensor) -> Tensor:
    """Values of the present tokens at their places, 0 elsewhere."""
    return values_M.new_zeros(present_NT.shape).masked_scatter(present_NT, values_M)


def _padded_inputs(
    model: Any, processor: PromptProcessor, groups: list[TokenGroup], device: torch.device
) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Every completion with its own copy of the prompt and its pictures: right for any family."""
    rows = [(g.prompt + c, g.image_inputs) for g in groups for c in g.completions]
    batch = processor.batch([ids for ids, _ in rows], [images for _, images in rows], side="right")
    starts = [len(g.prompt) for g in groups for _ in g.completions]
    kwargs = {name: value.to(device) for name, value in batch.items()}
    kwargs["position_ids"], _ = prompt_positions(model, kwargs)
    return kwargs, torch.arange(len(rows)), torch.tensor(starts)
