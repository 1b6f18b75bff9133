"""What a forward pass keeps for its backward pass, by token: a decoder layer as transformers computes it.

Counted from the operations of `Qwen2DecoderLayer` and its relatives (RMS norm, rotated queries and keys, gated MLP),
each tensor that autograd saves once. Two widths of numbers take part: c bytes in matrices (2 in half precision), and
r bytes in the residual stream (4 under autocast, whose weights stay float32; else as c). With h the hidden size, i the
MLP's, q = heads x head size, k = key heads x head size, a token's layer keeps

    two norms        2 x (4 h + r h)         their input in float32, and what their scale multiplies
    linear inputs    5 c h or 2 c h          autocast casts for each of q, k, v, gate, up; else one copy a norm
    attention        c (2 q + 4 k)           q, output, keys and values: each prompt's again before each completion
    MLP              4 c i                   gate, its SiLU, up, their product

A backward pass is fullest where it begins, at the output head, or, where layers are computed again, within a layer.
Both, and what a layer keeps, are compared with what torch has in memory by tests/capacity. Korthikanti et al.
(arXiv:2205.05198, eq. 1) count the same way for GPT's layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from stages.capacity.shape import Shape
from stages.capacity.units import Parts

# stages/train/rl/token_scores.py PIECE: logits of one piece of tokens, whatever the vocabulary.
PIECE = 1 << 25
# A piece's tables at once: the head's output (c bytes), then float32: cast, scaled, log-softmax, its gradient, and two
# that the entropy or the backward pass makes.
_TABLES = 6


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward and backward pass."""

    tokens: int
    """Tokens of the language model, padding counted."""
    images: int
    """How many of them are image tokens: what the tower works for."""
    half: bool
    """Matrices in bfloat16."""
    autocast: bool
    """Half precision by autocast: the weights, and so the residual stream, are float32."""
    checkpointing: bool
    """Layers are computed again in the backward pass."""
    trains_vision: bool
    """The tower gets gradients."""
    trains_head: bool = True
    """The output head gets some: not with LoRA, nor where the language model is frozen."""

    @property
    def compute(self) -> int:
        """Bytes of a number in matrices."""
        return 2 if self.half else 4

    @property
    def residual(self) -> int:
        """Bytes of a number of the residual stream."""
        return 4 if self.autocast else self.compute


def layer_bytes(shape: Shape, how: Pass) -> int:
    """What one token keeps of one decoder layer."""
    c, r, h = how.compute, how.residual, shape.hidden
    norms = 2 * (4 + r) * h
    inputs = (5 if how.autocast else 2) * c * h
    attention = c * shape.head_size * (2 * shape.heads + 4 * shape.kv_heads)
    return norms + inputs + attention + 4 * c * shape.intermediate


def vision_layer_bytes(shape: Shape, how: Pass) -> int:
    """What one patch keeps of one layer of the tower: the same, with as many key heads as heads."""
    c, r, h = how.compute, how.residual, shape.vision_hidden
    return 2 * (4 + r) * h + (3 if how.autocast else 2) * c * h + 6 * c * h + 4 * c * shape.vision_intermediate


def activations(shape: Shape, how: Pass) -> Parts:
    """Bytes at the peak of a backward pass: what is kept, and the head or a layer at work, whichever takes more."""
    kept = shape.layers * (boundary_bytes(shape, how) if how.checkpointing else how.tokens * layer_bytes(shape, how))
    again = how.tokens * layer_bytes(shape, how) if how.checkpointing else 0
    # Two gradients as wide as its MLP, two of the residual stream.
    working = how.tokens * (2 * how.compute * shape.intermediate + 2 * how.residual * shape.hidden)
    at_layer = {"activations": kept + again, "one layer's gradients": working}
    at_head = {"activations": kept, "output head": head(shape, how)}
    parts = max(at_head, at_layer, key=lambda parts: sum(parts.values()))
    return parts | ({"images": images(shape, how)} if shape.vision and how.images else {})


def boundary_bytes(shape: Shape, how: Pass) -> int:
    """What all tokens keep of a layer that is computed again: its input."""
    return how.tokens * how.residual * shape.hidden


def head(shape: Shape, how: Pass) -> int:
    """The last norm, the head's rows with their gradients, and its own gradient or its logits.

    Each piece of tokens makes a gradient of the whole matrix, which is added to those of the pieces before it: three
    are there at once.
    """
    rows = how.tokens * shape.hidden * (4 + how.residual + 3 * how.residual)
    matrix = how.compute * shape.vocabulary * shape.hidden
    return rows + (max(3 * matrix, matrix + logits(how)) if how.trains_head else logits(how))


def logits(how: Pass) -> int:
    """The output head's tables for one piece of tokens (`token_scores.project`), in the backward pass."""
    return PIECE * (2 * how.compute + 4 * _TABLES)


def images(shape: Shape, how: Pass) -> int:
    """Pixels, and what the tower keeps of them: all layers where it is trained, else one at a time."""
    patches = how.images * shape.patches
    layer = patches * vision_layer_bytes(shape, how)
    boundary = patches * how.residual * shape.vision_hidden
    pixels = patches * shape.patch_values * 4
    if not how.trains_vision:
        return pixels + layer
    if how.checkpointing:
        return pixels + shape.vision_layers * boundary + layer
    return pixels + shape.vision_layers * layer
