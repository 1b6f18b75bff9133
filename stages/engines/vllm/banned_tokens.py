"""Banned ids inside vLLM: taken out for all requests at once.

A `logit_bias` a request does the same, but vLLM writes all of them out again whenever a request comes or goes: with the
300 banned ids of a real vocabulary and 256 requests, at nearly every token.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor

BANNED = "cosmo_banned_token_ids"
"""Where vLLM's `additional_config` has them."""


class BannedTokens(LogitsProcessor):
    """A logits processor of the V1 model runner: the banned ids get no probability."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._ids = torch.tensor(vllm_config.additional_config[BANNED], dtype=torch.long, device=device)

    def is_argmax_invariant(self) -> bool:
        """A banned id may be the likeliest."""
        # True would let vLLM leave it out where it samples greedily.
        return False

    def update_state(self, batch_update: Any) -> None:
        """The same for every request."""

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of shape (R, V), in place."""
        return logits.index_fill_(1, self._ids, -torch.inf)
