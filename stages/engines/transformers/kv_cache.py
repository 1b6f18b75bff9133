"""A key-value cache that grows in strides: appending a token writes it in place and copies nothing.

Layers that keep no keys and values (linear attention, state spaces) stay transformers' own, and rows are chosen their
way.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

from stages.core.errors import UnavailableError
from stages.models.forward_inputs import forward_names

# What a model without any attention calls its cache.
_OF_STATES = "cache_params"
# Positions: at most 63 are room for nothing, and all is copied once in 64 tokens.
_STRIDE = 64


class GrowingLayer(DynamicLayer):
    """A DynamicLayer whose keys and values are the filled front of larger buffers."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._buffers: tuple[torch.Tensor, ...] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (B, heads, new, size) states; returns all of them. DynamicLayer would copy all at every token."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        filled = self.get_seq_length()
        total = filled + key_states.shape[2]
        if self._buffers is None or total > self._buffers[0].shape[2]:
            self._buffers = tuple(
                _buffer(present if filled else None, new, total)
                for present, new in ((self.keys, key_states), (self.values, value_states))
            )
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, filled:total] = new
        self.keys, self.values = (buffer[:, :, :total] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Go on with these rows; an index may come more than once."""
        super().batch_select_indices(indices)
        # The selection copied the filled part into tensors of its own: the buffers are the old rows'.
        self._buffers = None


def _buffer(present: torch.Tensor | None, new: torch.Tensor, total: int) -> torch.Tensor:
    """Room for `total` positions rounded up to the stride, with what is present copied in."""
    batch, heads, _, size = new.shape
    buffer = new.new_empty(batch, heads, -(-total // _STRIDE) * _STRIDE, size)
    if present is not None:
        buffer[:, :, : present.shape[2]] = present
    return buffer


def growing_cache(config: Any) -> Cache:
    """An empty cache for a model: as DynamicCache lays it out, with growing layers for plain attention.

    Layers of other kinds (sliding windows, linear attention) stay transformers' own.
    """
    layers = DynamicCache(config=config).layers
    return Cache(layers=[GrowingLayer() if type(layer) is DynamicLayer else layer for layer in layers])


def select_rows(cache: Cache, rows: torch.Tensor) -> None:
    """Go on with these rows of a cache; an index may come more than once."""
    layers: list[Any] = cache.layers
    for layer in layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            # States of a recurrence, and keys beside them where a layer has both: beam search's way takes all.
            layer.reorder_cache(rows)  # type: ignore[arg-type]
        elif layer.is_initialized:
            layer.batch_select_indices(rows)


def keeps_states(cache: Cache) -> bool:
    """Whether a layer keeps a state of all that was read, as linear attention does, in place of keys and values."""
    return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in cache.layers)


def check_cache(model: Any) -> None:
    """UnavailableError for a model whose memory of what it read is none that rows can be chosen from here.

    It would swallow our cache and sample each token as if nothing, or another row's words, were before.
    """
    names = forward_names(model)
    if names is not None and names.isdisjoint(("past_key_values", _OF_STATES)):
        why = "its forward takes no cache"
    elif getattr(model, "_is_stateful", False) and not keeps_states(growing_cache(model.config)):
        # RecurrentGemma's layers keep it themselves, xLSTM has a cache of a class of its own.
        why = "it keeps the state of what it read in a place of its own"
    else:
        return
    raise UnavailableError(
        f"{type(model).__name__} can't be sampled here: {why}",
        "SFT trains it as it is (cosmo train PROMPTS --objective sft); for the rest name another model",
    )


def cache_keyword(model: Any) -> str:
    """What a model's forward calls its cache: state-space models have a name of their own."""
    names = forward_names(model) or frozenset()
    return _OF_STATES if _OF_STATES in names and "past_key_values" not in names else "past_key_values"
