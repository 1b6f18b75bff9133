"""Attention over a shared prefix is attention over its copies."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from stages.models.attention.shared_prefix import SharedPrefix

SIZE = 8


def copied(layers, mask_BP, source_R, query, key, value):
    """Each row with its own copy of the prompt's keys and values."""
    keys, values = layers[0][0][source_R], layers[0][1][source_R]
    repeats = query.shape[1] // key.shape[1]
    both = (torch.cat(pair, dim=2).repeat_interleave(repeats, dim=1) for pair in ((keys, key), (values, value)))
    mask_RL = torch.cat([mask_BP[source_R], mask_BP.new_ones(len(source_R), key.shape[2])], dim=1).bool()
    return scaled_dot_product_attention(query, *both, attn_mask=mask_RL[:, None, None]).transpose(1, 2)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_it_equals_copies_and_goes_on_doing_so_when_rows_leave(data):
    counts = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4), label="samples of each prompt")
    groups, repeats, prompt = (data.draw(st.integers(1, n)) for n in (2, 3, 5))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    layers = [tuple(torch.randn(len(counts), groups, prompt, SIZE) for _ in range(2))]
    padding = torch.tensor([data.draw(st.integers(0, prompt - 1)) for _ in counts])
    mask_BP = (torch.arange(prompt) >= padding[:, None]).long()
    source_R = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    shared = SharedPrefix(layers, mask_BP, source_R)
    while True:
        own = data.draw(st.integers(1, 3))
        query = torch.randn(len(source_R), groups * repeats, 1, SIZE)
        key, value = (torch.randn(len(source_R), groups, own, SIZE) for _ in range(2))
        expected = copied(layers, mask_BP, source_R, query, key, value)
        torch.testing.assert_close(shared.attend(0, query, key, value, None), expected, atol=1e-5, rtol=0)
        stay = [at for at in range(len(source_R)) if data.draw(st.booleans())]
        if not stay:
            break
        shared.keep(torch.tensor(stay))
        source_R = source_R[stay]
