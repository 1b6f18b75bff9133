"""What a GPU holds while completions are sampled: weights, keys and values, and what a step needs beside them.

Keys and values take 2 x layers x key heads x head size numbers a token; with tensor parallelism each GPU has its part
of the heads, and never less than one head (vLLM, arXiv:2309.06180, section 4.6).
"""

from __future__ import annotations

from dataclasses import dataclass

from stages.capacity.shape import Shape
from stages.capacity.units import BYTES, GIB, Parts

# vLLM's own on a GPU, each for one step: tokens that are computed at once, sequences whose logits are there.
_STEP_TOKENS, _SEQUENCES = 8192, 1024
# CUDA graphs, and what vLLM holds outside its pool, asleep or not: ours, no measurement.
GRAPHS = 2 * GIB


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are sampled."""

    engine: str
    """vllm or transformers."""
    dtype: str
    tensor_parallel: int
    """GPUs that share a model (vllm)."""
    share: float
    """Part of a GPU's memory that vLLM takes."""
    kv_cache: int
    """Bytes for keys and values where they are given; 0: what the share leaves."""
    longest: int
    """The longest sequence the engine accepts: it must have room for one."""
    prompt: int
    new_tokens: int
    batch_tokens: int
    """Positions that the engine transformers holds at once."""


def kv_bytes(shape: Shape, dtype: str, tensor_parallel: int = 1) -> int:
    """Bytes of one token's keys and values on one GPU."""
    heads = -(-shape.kv_heads // tensor_parallel)
    return 2 * shape.layers * heads * shape.head_size * BYTES[dtype]


def vllm_parts(shape: Shape, how: Sampling, gpu_bytes: int) -> Parts:
    """Bytes of one GPU; the last is what is left for keys and values, below 0 where the weights have no room."""
    b, tp = BYTES[how.dtype], how.tensor_parallel
    weights = b * shape.parameters // tp
    widest = max(2 * shape.intermediate // tp, shape.hidden)
    step = _STEP_TOKENS * b * (widest + 4 * shape.hidden) + _SEQUENCES * shape.vocabulary * 8 // tp
    room = how.kv_cache or int(how.share * gpu_bytes) - weights - step - GRAPHS
    return {"weights": weights, "one step": step, "graphs and buffers": GRAPHS, "keys and values": room}


def at_a_time(shape: Shape, how: Sampling, room: int) -> float:
    """How many completions of full length, each with its prompt, have room for their keys and values."""
    return room / (kv_bytes(shape, how.dtype, how.tensor_parallel) * (how.prompt + how.new_tokens))


def transformers_parts(shape: Shape, how: Sampling) -> Parts:
    """Bytes of one GPU, or of a process without one: the engine decodes so many positions at once."""
    b = BYTES[how.dtype]
    # One prompt and completion is decoded however long it is.
    positions = max(how.batch_tokens, how.prompt + how.new_tokens)
    rows = max(1, positions // (how.prompt + how.new_tokens))
    return {
        "weights": b * shape.parameters,
        "keys and values": positions * kv_bytes(shape, how.dtype),
        "one step": rows * (how.prompt * (3 * shape.intermediate + 4 * shape.hidden) * b + shape.vocabulary * 8),
    }
