"""Banned ids inside vLLM: taken out for all requests at once.

A `logit_bias` a request does the same, but vLLM's V1 runner writes all of them out again whenever a request comes or
goes: with the 300 banned ids of a real vocabulary and 256 requests, at nearly every token.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.sample import logits_processor as v1

try:
    from vllm.v1.worker.gpu.sample import logits_processor as v2
except ImportError:
    # Before 0.31 processors like this one are for the V1 model runner, and send vLLM back to it.
    v2 = v1

BANNED = "cosmo_banned_token_ids"
"""Where vLLM's `additional_config` has them."""


class _Banned:
    """What both model runners ask of a processor; they differ in where it learns of its device, and in `apply`."""

    def __init__(self, vllm_config: Any, where: Any, is_pin_memory: bool = False) -> None:
        """`where`: a device from the V1 runner; from V2, which tells nothing more, the requests, on their device."""
        device = getattr(where, "device", where)
        self._ids = torch.tensor(vllm_config.additional_config[BANNED], dtype=torch.long, device=device)

    def is_argmax_invariant(self) -> bool:
        """V1: a banned id may be the likeliest."""
        # True would let vLLM leave it out where it samples greedily.
        return False

    def update_state(self, batch_update: Any) -> None:
        """V1: the same for every request."""

    def apply(self, logits: torch.Tensor, ctx: Any = None) -> torch.Tensor:
        """Logits of shape (R, V), in place; V2 also says which request a row is of."""
        return logits.index_fill_(1, self._ids, -torch.inf)


if v2 is v1:

    class BannedTokens(_Banned, v1.LogitsProcessor):
        """The banned ids get no probability."""

else:

    class BannedTokens(_Banned, v1.LogitsProcessor, v2.LogitsProcessor):  # type: ignore[no-redef]
        """The banned ids get no probability.

        One class for both runners: vLLM chooses its runner after it was told of the processor, by all its settings.
        """
