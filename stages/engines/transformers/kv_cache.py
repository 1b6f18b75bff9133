"""A key-value cache that grows in strides: appending a token writes it in place and copies nothing."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

_STRIDE = 64


class RoomyLayer(DynamicLayer):
    """A DynamicLayer whose keys and values are the filled front of larger buffers."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rooms: tuple[torch.Tensor, ...] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (B, heads, new, size) states; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        filled = self.get_seq_length()
        total = filled + key_states.shape[2]
        if self._rooms is None or total > self._rooms[0].shape[2]:
            self._rooms = tuple(
                _room(held if filled else None, new, total)
                for held, new in ((self.keys, key_states), (self.values, value_states))
            )
        for room, new in zip(self._rooms, (key_states, value_states), strict=True):
            room[:, :, filled:total] = new
        self.keys, self.values = (room[:, :, :total] for room in self._rooms)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows; an index may come more than once."""
        super().batch_select_indices(indices)
        self._rooms = None


def _room(held: torch.Tensor | None, new: torch.Tensor, total: int) -> torch.Tensor:
    """A buffer for `total` positions and some more, with what is held copied in."""
    batch, heads, _, size = new.shape
    room = new.new_empty(batch, heads, -(-total // _STRIDE) * _STRIDE, size)
    if held is not None:
        room[:, :, : held.shape[2]] = held
    return room


def roomy_cache(config: Any) -> Cache:
    """An empty cache for a model: as DynamicCache lays it out, with roomy layers for plain attention."""
    layers = DynamicCache(config=config).layers
    return Cache(layers=[RoomyLayer() if type(layer) is DynamicLayer else layer for layer in layers])
