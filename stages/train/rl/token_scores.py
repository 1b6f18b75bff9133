"""The output head of completion tokens alone: their log-probs and entropies, never a whole table of logits.

A model's forward projects what `logits_to_keep` leaves. Where its head is the last thing it does, the head gets
another forward for the call: hidden states in, two numbers a token out, a bounded number of tokens at a time.
Everything still passes through the model's own forward, so that whatever wraps it (mixed precision, DDP, ZeRO) sees
parameters used where it expects them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from stages.models.families import family_of
from stages.models.forward_inputs import kept_logits

# Not -inf: 0 * -inf would be NaN in the entropy, and exp of this is 0 all the same.
_BANNED = -1e9
# Logits of one piece: 128 MiB in float32. More pieces are recomputed in the backward pass.
PIECE = 1 << 25


@dataclass(frozen=True, slots=True)
class TokenScorer:
    """M tokens to be scored."""

    ids_M: Tensor
    """Which tokens."""
    temperature_M: Tensor | None
    """What their logits are divided by; None where that is 1 for all."""
    banned: Tensor
    """Ids the sampler could not give."""

    def score(self, logits_MV: Tensor, piece: slice = slice(None)) -> Tensor:
        """(2, M): log-prob at the sampling temperature without banned ids, and entropy (no gradient) in nats."""
        # Whatever the model computes in: with bfloat16's three digits the ratio would be noise.
        logits_MV = logits_MV.float()
        if self.temperature_M is not None:
            logits_MV = logits_MV / self.temperature_M[piece, None]
        if len(self.banned):
            logits_MV = logits_MV.index_fill(1, self.banned, _BANNED)
        logprobs_MV = logits_MV.log_softmax(dim=-1)
        # It is only looked at: with a gradient the backward pass would need a second table of logits.
        with torch.no_grad():
            entropy_M = -(logprobs_MV.exp() * logprobs_MV).sum(-1)
        return torch.stack([logprobs_MV.gather(1, self.ids_M[piece, None]).squeeze(1), entropy_M])


def project(
    model: Any, forward: Callable[..., Any], kwargs: dict[str, Any], scorer: TokenScorer, row_M: Tensor
) -> Tensor:
    """(2, M): what `scorer` gives for the rows `row_M` of the kept positions, flattened (B x K)."""
    if not family_of(model).head_is_last:
        return scorer.score(_rows(kept_logits(model, forward, kwargs), row_M))

    def scored(head: Callable[[Tensor], Tensor], hidden_BKD: Tensor) -> Tensor:
        hidden_MD = _rows(hidden_BKD, row_M)
        vocabulary = model.config.get_text_config().vocab_size
        rows = max(1, PIECE // vocabulary)
        pieces = [slice(at, at + rows) for at in range(0, len(row_M), rows)]

        def one(piece: slice) -> Tensor:
            return scorer.score(head(hidden_MD[piece]), piece)

        if len(pieces) == 1 or not torch.is_grad_enabled():
            return torch.cat([one(piece) for piece in pieces], dim=1)
        return torch.cat([_again(one, piece) for piece in pieces], dim=1)

    with _replaced_forward(model.get_output_embeddings(), scored):
        return forward(**kwargs).logits


def _again(one: Callable[[slice], Tensor], piece: slice) -> Tensor:
    """A piece whose logits are computed again in the backward pass."""
    # The reentrant kind sees only tensors that it is given, and a slice is none: no gradient would pass.
    return checkpoint(one, piece, use_reentrant=False)


def _rows(values_BKX: Tensor, row_M: Tensor) -> Tensor:
    """One flat index_select: its backward adds up in a fixed order, that of indexing by two tensors does not."""
    return values_BKX.flatten(0, 1).index_select(0, row_M)


@contextmanager
def _replaced_forward(head: Any, scored: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> Iterator[None]:
    """The head module with another forward for a while; its hooks stay."""
    # A wrapper may have put a forward on the module itself: then that one is put back, else the class's shows again.
    own, plain = "forward" in vars(head), head.forward
    head.forward = lambda hidden: scored(plain, hidden)
    try:
        yield
    finally:
        if own:
            head.forward = plain
        else:
            del head.forward
