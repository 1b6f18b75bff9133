"""What carries a batch from its prefilled prompts through the tokens of its completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import Cache

from stages.engines.transformers.kv_cache import cache_keyword, growing_cache, select_rows
from stages.models.attention.packed_attention import use_packed_attention
from stages.models.attention.shared_prefix import SharedPrefix, layers_of
from stages.models.families import uncached_reason


class CopiedPrompts:
    """Every completion has a copy of its prompt's cache: right for any model, whatever its layers keep."""

    def __init__(
        self,
        cache: Cache,
        mask_BP: torch.Tensor,
        source_R: torch.Tensor,
        along: Mapping[str, torch.Tensor],
        keyword: str,
    ) -> None:
        select_rows(cache, source_R)
        self._cache, self._mask_RL, self._keyword = cache, mask_BP[source_R], keyword
        self._along = {name: value_BP[source_R] for name, value_BP in along.items()}

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows alone."""
        select_rows(self._cache, rows)
        self._mask_RL = self._mask_RL[rows]
        self._along = {name: value_RL[rows] for name, value_RL in self._along.items()}

    def following(self) -> dict[str, Any]:
        """Forward keywords for the next token of every row."""
        self._mask_RL = torch.cat([self._mask_RL, self._mask_RL.new_ones(len(self._mask_RL), 1)], dim=1)
        # As transformers' `generate` does: whole, and a further token has what the one before it had.
        self._along = {name: torch.cat([value, value[:, -1:]], dim=1) for name, value in self._along.items()}
        # Without attention a mask is of the tokens that a forward is given, and a completion's are no padding.
        mask = self._mask_RL if self._keyword == "past_key_values" else self._mask_RL[:, -1:]
        return {"attention_mask": mask, self._keyword: self._cache, **self._along}


class SharedPrompts:
    """A prompt's keys and values are kept once, and the cache has the completions' own tokens alone."""

    def __init__(self, model: Any, cache: Cache, mask_BP: torch.Tensor, source_R: torch.Tensor) -> None:
        use_packed_attention(model)
        self._prefix = SharedPrefix(layers_of(cache), mask_BP, source_R)
        self._own = growing_cache(model.config)
        # Anything 4-D is taken for a finished mask: own tokens are all seen, and the prefix knows its padding.
        self._mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=mask_BP.device)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows alone."""
        self._prefix.keep(rows)
        self._own.batch_select_indices(rows)

    def following(self) -> dict[str, Any]:
        """Forward keywords for the next token of every row; `prefix` is handed down to every attention layer."""
        return {"attention_mask": self._mask, "past_key_values": self._own, "prefix": self._prefix}


def decoding(
    model: Any,
    cache: Cache,
    mask_BP: torch.Tensor,
    source_R: torch.Tensor,
    along: Mapping[str, torch.Tensor] | None = None,
) -> CopiedPrompts | SharedPrompts:
    """The cheaper way that the model's family can go; row r goes on from prompt `source_R[r]`.

    `along`: the prompts' inputs with an entry a token that are asked for at every token, (B, P, ...).
    """
    if uncached_reason(model) is None:
        return SharedPrompts(model, cache, mask_BP, source_R)
    return CopiedPrompts(cache, mask_BP, source_R, along or {}, cache_keyword(model))
