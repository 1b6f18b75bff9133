"""What one GPU and one machine hold while a policy is trained, by layout (`--parallel`).

With N parameters of which T are trained, b bytes a weight and W ranks, a GPU holds, in bytes:

    layout   weights   gradients        moments   beside them
    ddp      b N       b T              8 T       b T of buckets where W > 1 (torch's DDP, no gradient views)
    zero2    b N       4 T / W          8 T / W   4 T / W float32 masters, two reduction buckets
    zero3    b N / W   4 T / W          8 T / W   a bucket, at most 1e9 gathered numbers
    fsdp2    b N / W   b T / W          8 T / W   two layers and what is in none, gathered; a layer's gradients

and 4 T (sharded: 4 T / W) of float32 masters where b = 2 (stages/train/masters.py; unless `masters = false`).

ZeRO: arXiv:1910.02054, section 3, and DeepSpeed 0.19's stage_1_and_2.py and stage3.py with the settings in
stages/train/parallel/zero2.json and zero3.json. FSDP2: torch's `fully_shard` as stages/train/parallel/fsdp.py calls it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stages.capacity.activations import Pass, activations, boundary_bytes, head
from stages.capacity.shape import Shape
from stages.capacity.units import BYTES, GIB, MOMENTS, Parts

# Numbers, as in zero2.json and zero3.json.
_BUCKET, _LIVE = 200_000_000, 1_000_000_000
# torch, transformers and CUDA's host side in each process: ours, no measurement.
PROCESS = 3 * GIB


@dataclass(frozen=True, slots=True)
class Training:
    """How a policy is trained."""

    parallel: str
    """ddp, zero2, zero3 or fsdp2."""
    ranks: int
    """Processes on all machines together."""
    local: int
    """Processes on one machine."""
    dtype: str
    """Weights while they are trained."""
    lora: int
    """Rank of the adapters; 0: whole weights."""
    reference: str
    """What weights of a reference model for the KL are in; empty: none. Whole on each GPU with ddp, else in parts."""
    one_pass: Pass
    """Its largest forward and backward."""
    trains_language: bool = True
    """Not with `freeze_language`."""

    @property
    def sharded(self) -> bool:
        """Whether no rank has all of the optimizer."""
        return self.parallel != "ddp"


def trained(shape: Shape, how: Training) -> int:
    """Parameters that get gradients: all that is not frozen, or adapters of its linear layers' width."""
    vision, language = how.one_pass.trains_vision, how.trains_language
    if how.lora:
        return how.lora * (language * shape.adapter_width + vision * shape.vision_adapter_width)
    return shape.parameters - (0 if vision else shape.vision) - (0 if language else shape.language)


def resident(shape: Shape, how: Training) -> Parts:
    """Bytes of one GPU before anything is computed: weights, gradients, moments, and what the layout adds."""
    b, w, t = BYTES[how.dtype], how.ranks, trained(shape, how)
    weights = b * (shape.parameters + (t if how.lora else 0))
    masters = {"float32 masters": 4 * t} if b != 4 else {}
    if how.parallel == "ddp":
        parts = {"weights": weights, "gradients": b * t, "moments": MOMENTS * 4 * t} | masters
        return parts | ({"reduction buckets": b * t} if w > 1 else {})
    if how.parallel == "fsdp2":
        parts = {"weights": weights, "gradients": b * t, "moments": MOMENTS * 4 * t} | masters
        return {name: number // w for name, number in parts.items()}
    wire = 2 if how.one_pass.half else 4
    whole = how.parallel == "zero2"
    parts = {"weights": weights if whole else weights // w, "gradients": 4 * t // w, "moments": MOMENTS * 4 * t // w}
    if whole or masters:
        parts["float32 masters"] = 4 * t // w
    return parts | {"reduction buckets": (2 if whole else 1) * wire * min(_BUCKET, t)}


def at_work(shape: Shape, how: Training) -> Parts:
    """Bytes of one GPU at the peak of a step."""
    parts = resident(shape, how) | activations(shape, how.one_pass)
    c = how.one_pass.compute
    if how.parallel == "fsdp2":
        rest = shape.parameters - shape.layered
        # The root's parameters stay gathered; a layer's gradients are made in c bytes and added up in float32.
        parts["gathered layers"] = c * (2 * shape.largest + rest) + (c + 4) * shape.largest
    elif how.parallel == "zero3":
        parts["gathered layers"] = c * min(_LIVE, shape.parameters)
    elif how.one_pass.autocast and not how.one_pass.checkpointing:
        # What autocast copied for the forward pass, the graph keeps for the backward pass.
        parts["bfloat16 copies of weights"] = 2 * shape.linear
    elif how.one_pass.autocast and "one layer's gradients" in parts:
        parts["bfloat16 copies of weights"] = 2 * shape.largest
    if how.reference:
        parts["reference model"] = _reference(shape, how, c)
    return {name: number for name, number in parts.items() if number}


def _reference(shape: Shape, how: Training, computed: int) -> int:
    """Bytes of one GPU for the model of the KL, computed with in so many bytes a number."""
    held = BYTES[how.reference] * shape.parameters
    if not how.sharded:
        return held
    # Its part, and at work what is in no layer, gathered beside the policy's own.
    return held // how.ranks + computed * (shape.parameters - shape.layered)


def forward_end(shape: Shape, how: Training) -> Parts:
    """Bytes of one GPU at the end of a checkpointed forward under autocast, which still has all its copies; else {}.

    torch's cache of casts lives as long as the autocast context, which is around the whole forward pass.
    """
    if not (how.one_pass.autocast and how.one_pass.checkpointing and how.parallel in ("ddp", "zero2")) or how.lora:
        return {}
    one = how.one_pass
    kept = shape.layers * boundary_bytes(shape, one)
    # No gradient of the head yet.
    parts = {"activations": kept, "output head": head(shape, replace(one, trains_head=False))}
    reference = {"reference model": _reference(shape, how, 2)} if how.reference else {}
    return resident(shape, how) | parts | {"bfloat16 copies of weights": 2 * shape.linear} | reference


def at_start_and_end(shape: Shape, how: Training) -> Parts:
    """Bytes of one GPU while what lies in parts is set or saved: each tensor is gathered, in float32 the largest.

    Nothing is there beside what a step has: zero2's parameters are read in parts and gathered one by one, zero3's are
    partitioned again at once.
    """
    if not how.sharded:
        return {}
    return resident(shape, how) | {"one tensor, whole": 4 * max(shape.head, shape.largest)}


def gpu_moments(shape: Shape, how: Training) -> dict[str, Parts]:
    """The moments at which a GPU may be fullest, by name; `at_work` is always one."""
    found = {
        "step": at_work(shape, how),
        "end of the forward pass": forward_end(shape, how),
        "start and end, a tensor whole": at_start_and_end(shape, how),
    }
    return {name: parts for name, parts in found.items() if parts}


def host(shape: Shape, how: Training, gpu: int) -> Parts:
    """Bytes of one machine's memory, all its processes together.

    `gpu` is what tensors can have of one GPU; 0: there is none, and all of it lies here. In parts, each process reads
    (b N + m T) / W, m bytes of a parameter's moments, and has one tensor whole at a time (of converted weights, a
    layer). With fsdp2 the parts lie on the GPU but for the weights as they are read; zero2 and zero3 have them here at
    the start, in each checkpoint and at the end. Where zero2's flat copy of the weights has no room on the GPU,
    DeepSpeed makes it here, of a copy: 2 b T.
    """
    model, moments = _saved(shape, how)
    each = {"processes": PROCESS}
    if not gpu:
        # What a GPU would hold; one process of a sharded layout has all of it.
        own = replace(how, parallel="ddp") if how.ranks == 1 else how
        each |= at_work(shape, own)
    if how.sharded:
        if how.parallel != "fsdp2":
            each["weights and moments in parts"] = (model + moments) // how.ranks
        elif gpu:
            each["weights as they are read"] = model // how.ranks
        each["one tensor as it is saved"] = 4 * max(shape.head, shape.largest)
        if how.reference and how.parallel != "fsdp2" and gpu:
            each["reference model as it is loaded"] = BYTES[how.reference] * shape.parameters // how.ranks
        flat = BYTES[how.dtype] * trained(shape, how)
        if how.parallel == "zero2" and gpu and model + flat > gpu:
            each["weights that DeepSpeed lays flat"] = 2 * flat
    else:
        each |= {"model as it is loaded or saved": model, "moments as they are": moments}
    return {name: how.local * number for name, number in each.items()}


def _saved(shape: Shape, how: Training) -> tuple[int, int]:
    """Bytes of the weights and of the moments, in all; a master is beside the moments of weights with fewer digits."""
    b = BYTES[how.dtype]
    return b * shape.parameters, (MOMENTS + (b != 4)) * 4 * trained(shape, how)


def waiting(shape: Shape, how: Training, gpu: int) -> Parts:
    """Bytes of one machine's memory that its ranks hold between the turns of a recipe, all of them together.

    They keep what they trained last where it lies here anyway: all of it without a GPU, and the parts of zero2 and
    zero3. One process keeps it, too, and samples with it.
    """
    if how.ranks == 1:
        return {}
    each = {"ranks that wait": PROCESS}
    kept = sum(_saved(shape, how))
    if not how.lora and (not gpu or how.parallel in ("zero2", "zero3")):
        each["weights and moments that they keep"] = kept // how.ranks if how.sharded else kept
    return {name: how.local * number for name, number in each.items()}
