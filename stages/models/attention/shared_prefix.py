"""Sampling several completions of a prompt: its keys and values are kept once, and read once a step for all of them.

The usual way copies a prompt's cache to each of its samples and has every row read its own copy. Here the queries of
a prompt's rows stand together against the one cache of their prompt, and each row adds its own tokens: one softmax
over both (the numbers are those of the usual way, to rounding).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


class SharedPrefix:
    """The prefilled cache of B prompts, and which of R rows goes on from which."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]], mask_BP: Tensor, source_R: Tensor) -> None:
        """`layers`: keys and values (B, Hkv, P, D) of each layer; `mask_BP`: 0 at padding; `source_R`: ascending."""
        self._layers, self._mask_BP, self._source_R = layers, mask_BP.bool(), source_R
        self._make_table()

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows, in their order; the keys and values of prompts without a row are dropped."""
        prompts, self._source_R = self._source_R[rows].unique_consecutive(return_inverse=True)
        if len(prompts) < len(self._mask_BP):
            self._layers = [(keys[prompts], values[prompts]) for keys, values in self._layers]
            self._mask_BP = self._mask_BP[prompts]
        self._make_table()

    def _make_table(self) -> None:
        """Rows as a table (B, G), short lines filled with any row; and each row's slot in it."""
        counts = torch.bincount(self._source_R, minlength=len(self._mask_BP)).tolist()
        starts = torch.tensor([0, *counts], device=self._source_R.device).cumsum(0)
        self._widest = max(counts)
        row_R = torch.arange(len(self._source_R), device=self._source_R.device)
        slot_R = self._source_R * self._widest + row_R - starts[self._source_R]
        # None where every prompt has as many rows: then the table is the rows.
        full = all(a == b for a, b in pairwise(counts))
        self._slot_R = None if full else slot_R
        # None where no prompt is padded: then nothing is hidden.
        padding_BP = ~self._mask_BP
        self._padding_B11P = padding_BP[:, None, None, :] if padding_BP.any() else None
        self._row_BG = row_R.new_zeros(len(counts) * self._widest).scatter(0, slot_R, row_R)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """One new token a row: `query` (R, H, 1, D), the row's own `key`, `value` (R, Hkv, T, D); (R, 1, H, D)."""
        keys_BKPD, values_BKPD = self._layers[layer]
        rows, heads, _, size = query.shape
        groups = key.shape[1]
        query_RKQD = (query * (size**-0.5 if scale is None else scale)).reshape(rows, groups, heads // groups, size)
        # All rows of a prompt against its one cache: a matrix product where copies would be as many small ones.
        scores = self._table(query_RKQD) @ keys_BKPD.transpose(2, 3)
        if self._padding_B11P is not None:
            # In place: nobody else has the scores.
            scores.masked_fill_(self._padding_B11P, torch.finfo(scores.dtype).min)
        before_RKQP = self._rows(scores)
        own_RKQT = query_RKQD @ key.transpose(2, 3)
        # One softmax over prompt and own tokens, in float32 as in transformers' own attention.
        weights = torch.cat([before_RKQP, own_RKQT], dim=-1).float().softmax(dim=-1).to(value.dtype)
        before, own = weights.split([before_RKQP.shape[-1], own_RKQT.shape[-1]], dim=-1)
        out_RKQD = self._rows(self._table(before) @ values_BKPD) + own @ value
        return out_RKQD.reshape(rows, 1, heads, size)

    def _table(self, values_RKQX: Tensor) -> Tensor:
        """Rows of a prompt side by side: (B, Hkv, G x Q, X)."""
        if self._slot_R is not None:
            values_RKQX = values_RKQX[self._row_BG]
        table = values_RKQX.unflatten(0, (-1, self._widest)).transpose(1, 2)
        return table.flatten(2, 3)

    def _rows(self, table: Tensor) -> Tensor:
        """The way back: (R, Hkv, Q, X)."""
        values = table.unflatten(2, (self._widest, -1)).transpose(1, 2).flatten(0, 1)
        return values if self._slot_R is None else values[self._slot_R]


def layers_of(cache: Any) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of each layer of a cache."""
    return [(layer.keys, layer.values) for layer in cache.layers]
