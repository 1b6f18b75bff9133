"""Variable-length attention over packed groups: the layout it is given, and the trial before it is trusted.

The kernel is CUDA's. Its documented meaning, sequence by sequence through `scaled_dot_product_attention`, stands in for
it on a CPU: what is compared is what this package hands to it, and what it makes of the answer.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention

from stages.models.attention import packed_varlen
from stages.models.attention.packed_attention import block_by_block, use_packed_attention
from stages.models.attention.packing import PackedGroup, Packing
from stages.models.families import VARLEN
from stages.train.config import TrainConfig
from stages.train.rl.kernel import choose_kernel
from tests.train.made import scored_group
from tests.train.test_logprobs import assert_same, scored_with_gradients, token_groups

CPU = torch.device("cpu")


def documented(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa, corner=None):
    """What `varlen_attn` says it does with a (-1, 0) window: causal, aligned at the last key."""
    assert window_size == (-1, 0)
    assert enable_gqa == (query.shape[1] != key.shape[1])
    starts = [pairwise(c.tolist()) for c in (cu_seq_q, cu_seq_k)]
    found = []
    for (q, q_end), (k, k_end) in zip(*starts, strict=True):
        rows, columns = q_end - q, k_end - k
        assert rows <= max_q
        assert columns <= max_k
        seen = torch.ones(rows, columns, dtype=torch.bool).tril(columns - rows if corner is None else corner)
        parts = (query[q:q_end], key[k:k_end], value[k:k_end])
        q_1H, k_1H, v_1H = (t.transpose(0, 1)[None] for t in parts)
        out = scaled_dot_product_attention(q_1H, k_1H, v_1H, attn_mask=seen, scale=scale, enable_gqa=enable_gqa)
        found.append(out[0].transpose(0, 1))
    return torch.cat(found)


groups = st.builds(PackedGroup, st.integers(1, 9), st.lists(st.integers(1, 7), min_size=1, max_size=4))


@settings(max_examples=60, deadline=None)
@given(st.lists(groups, min_size=1, max_size=4), st.sampled_from([(4, 2), (3, 3)]))
def test_its_sequences_are_the_blocks_and_so_are_their_gradients(layout, heads):
    packed = Packing(layout)
    length = sum(packed.queries)
    generator = torch.Generator().manual_seed(length)
    shapes = [(1, h, length, 8) for h in (heads[0], heads[1], heads[1])]
    tensors = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    weights = torch.randn(1, length, heads[0], 8, generator=generator)
    found = []
    for out in (block_by_block(packed, *tensors, 0.3), packed_varlen.attend(packed, *tensors, 0.3, documented)):
        found.append([out, *torch.autograd.grad((out * weights).sum(), tensors)])
    for blocks, varlen in zip(*found, strict=True):
        torch.testing.assert_close(varlen, blocks, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llama"])
def test_a_model_in_bfloat16_attends_through_it(policies, name, monkeypatch):
    """The whole way of a trainer, with autocast: log-probs as with blocks, to the digits that bfloat16 has."""
    policy = policies(name)
    calls = []

    def kernel(*given, **more):
        calls.append(given[0].dtype)
        return documented(*given, **more)

    monkeypatch.setattr(packed_varlen.attend, "__defaults__", (kernel,))
    rows = [scored_group(policy, i, g=2 + i, images=name != "llama") for i in range(3)]
    tokens = token_groups(policy, rows)
    found = []
    for which in ("packed_sdpa", VARLEN):
        use_packed_attention(policy.model, which)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(scored_with_gradients(policy.model, policy.processor, tokens, [5], True))
    layers = policy.model.config.get_text_config().num_hidden_layers
    assert calls == [torch.bfloat16] * layers
    (blocks, _), (varlen, _) = found
    torch.testing.assert_close(varlen.logprobs_NT, blocks.logprobs_NT, atol=0.05, rtol=0)
    # In float32 there is no such kernel: the same model goes block by block.
    exact = [scored_with_gradients(policy.model, policy.processor, tokens, [5], share) for share in (False, True)]
    assert_same(*exact)
    assert len(calls) == layers


def test_it_is_trusted_where_it_gives_the_numbers_of_blocks_alone(policies):
    model = policies("qwen2_5_vl").model

    def first_key(*given, **more):
        return documented(*given, **more, corner=0)

    assert packed_varlen.unusable_reason(model, CPU, documented) is None
    assert "% off" in packed_varlen.unusable_reason(model, CPU, first_key)
    # The real one, where there is no GPU: a reason, and no traceback.
    assert "CPU" in packed_varlen.unusable_reason(model, CPU)


def test_a_cpu_and_float32_and_a_wish_leave_it_out(policies):
    model = policies("llama").model
    for config, device in (
        (TrainConfig(), "cpu"),
        (TrainConfig(autocast="bf16"), "cpu"),
        (TrainConfig(autocast="no"), "cuda"),
        (TrainConfig(attention="blocks"), "cuda"),
    ):
        assert choose_kernel([model], config, torch.device(device)) is None
        assert model.config.get_text_config()._attn_implementation == "packed_sdpa"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_real_kernel_on_a_gpu(policies):
    assert packed_varlen.unusable_reason(policies("qwen2_5_vl").model, torch.device("cuda"), varlen_attn) is None
