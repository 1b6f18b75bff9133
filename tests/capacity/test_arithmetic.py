"""Every formula by hand, to the byte, for a model small enough to add up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stages.capacity.activations import PIECE, Pass, activations, head, images, layer_bytes, logits
from stages.capacity.sampling import Sampling, at_a_time, kv_bytes, transformers_parts, vllm_parts
from stages.capacity.shape import Shape
from stages.capacity.training import (
    PROCESS,
    Training,
    at_start_and_end,
    at_work,
    forward_end,
    gpu_moments,
    host,
    resident,
    trained,
    waiting,
)
from stages.capacity.units import BYTES, GIB, size
from stages.train.config import PARALLEL

SHAPE = Shape(
    model_type="qwen2",
    parameters=1000,
    vision=200,
    language=780,
    head=100,
    linear=600,
    layered=700,
    largest=70,
    adapter_width=50,
    vision_adapter_width=20,
    layers=3,
    hidden=8,
    intermediate=16,
    heads=4,
    kv_heads=2,
    head_size=2,
    vocabulary=11,
    positions=64,
    vision_layers=2,
    vision_hidden=6,
    vision_intermediate=10,
    patches=4,
    patch_values=12,
)
PLAIN = Pass(10, 0, half=False, autocast=False, checkpointing=False, trains_vision=False)
CAST = replace(PLAIN, half=True, autocast=True)
BUCKETS = "reduction buckets"
TRAINING = Training("ddp", 4, 4, "float32", 0, reference="", one_pass=PLAIN)


@pytest.mark.parametrize(
    ("parallel", "parts"),
    [
        ("ddp", {"weights": 4000, "gradients": 3200, "moments": 6400, BUCKETS: 3200}),
        # Buckets: never more than is trained, in float32 where nothing is cast.
        (
            "zero2",
            {"weights": 4000, "gradients": 800, "moments": 1600, "float32 masters": 800, "reduction buckets": 6400},
        ),
        ("zero3", {"weights": 1000, "gradients": 800, "moments": 1600, BUCKETS: 3200}),
        ("fsdp2", {"weights": 1000, "gradients": 800, "moments": 1600}),
    ],
)
def test_what_each_layout_holds(parallel, parts):
    assert resident(SHAPE, replace(TRAINING, parallel=parallel)) == parts


def test_every_layout_that_can_be_asked_for_has_its_arithmetic():
    totals = {p: sum(resident(SHAPE, replace(TRAINING, parallel=p)).values()) for p in PARALLEL}
    assert totals["fsdp2"] < totals["zero3"] < totals["zero2"] < totals["ddp"] + 1
    # One process adds up gradients with nobody.
    assert "reduction buckets" not in resident(SHAPE, replace(TRAINING, ranks=1))


def test_bfloat16_weights_have_masters_and_float32_moments():
    half = {p: resident(SHAPE, replace(TRAINING, parallel=p, dtype="bfloat16")) for p in PARALLEL}
    assert half["zero3"]["float32 masters"] == 4 * 800 // 4
    assert half["fsdp2"] == {"weights": 500, "gradients": 400, "moments": 1600, "float32 masters": 800}
    assert (half["ddp"]["moments"], half["ddp"]["float32 masters"]) == (2 * 4 * 800, 4 * 800)


@pytest.mark.parametrize(
    ("parallel", "gpu", "kept"),
    [
        ("ddp", 0, 4 * 10400),
        ("zero3", 0, 10400),
        ("fsdp2", 0, 10400),
        ("zero2", 1, 10400),
        ("fsdp2", 1, 0),
        ("ddp", 1, 0),
    ],
)
def test_what_ranks_hold_between_turns(parallel, gpu, kept):
    """Weights and moments of four ranks, where they lie in the host's memory at the end of training."""
    held = waiting(SHAPE, replace(TRAINING, parallel=parallel), gpu)
    assert held.pop("ranks that wait") == 4 * PROCESS
    assert sum(held.values()) == kept
    assert waiting(SHAPE, replace(TRAINING, ranks=1), gpu) == {}


def test_what_is_trained():
    assert trained(SHAPE, TRAINING) == 800
    assert trained(SHAPE, replace(TRAINING, one_pass=replace(PLAIN, trains_vision=True))) == 1000
    lora = replace(TRAINING, lora=2)
    assert trained(SHAPE, lora) == 2 * 50
    assert resident(SHAPE, lora)["weights"] == 4 * (1000 + 100)
    assert resident(SHAPE, lora)["moments"] == 8 * 100


def test_a_layer_s_activations():
    # norms 2 x (4 + 4) x 8, inputs 2 x 4 x 8, attention 4 x 2 x (2 x 4 + 4 x 2), MLP 4 x 4 x 16.
    assert layer_bytes(SHAPE, PLAIN) == 128 + 64 + 128 + 256
    # norms the same, five casts of 2 x 8, attention and MLP half.
    assert layer_bytes(SHAPE, CAST) == 128 + 80 + 64 + 128
    assert layer_bytes(SHAPE, replace(CAST, autocast=False)) == 96 + 32 + 64 + 128


def test_the_output_head():
    assert logits(PLAIN) == PIECE * 32
    assert logits(CAST) == PIECE * 28
    # Rows 10 x 8 x (4 + 4 x 4), one matrix of 4 x 11 x 8 beside a piece of logits.
    assert head(SHAPE, PLAIN) == 1600 + 352 + PIECE * 32
    assert head(SHAPE, replace(PLAIN, trains_head=False)) == 1600 + PIECE * 32
    # Of a real vocabulary three gradients of the matrix are more than a piece of logits.
    large = replace(SHAPE, vocabulary=150_000, hidden=4096)
    assert head(large, PLAIN) == 10 * 4096 * 20 + 3 * 4 * 150_000 * 4096


def test_checkpointing_keeps_the_boundaries_and_one_layer():
    assert activations(SHAPE, PLAIN) == {"activations": 3 * 10 * 576, "output head": head(SHAPE, PLAIN)}
    again = replace(PLAIN, checkpointing=True)
    assert activations(SHAPE, again)["activations"] == 3 * 10 * 4 * 8
    # With so many tokens a layer that is computed again is more than the head.
    many = replace(again, tokens=10**8)
    assert activations(SHAPE, many) == {
        "activations": 10**8 * (3 * 4 * 8 + 576),
        "one layer's gradients": 10**8 * (2 * 4 * 16 + 2 * 4 * 8),
    }


def test_images():
    seen = replace(PLAIN, images=5)
    # 5 tokens of 4 patches: 12 numbers each, and one layer of 2 x 8 x 6 + 2 x 24 + 6 x 24 + 16 x 10 bytes a patch.
    layer = 20 * (96 + 48 + 144 + 160)
    assert images(SHAPE, seen) == 20 * 48 + layer
    assert images(SHAPE, replace(seen, trains_vision=True)) == 20 * 48 + 2 * layer
    once = replace(seen, trains_vision=True, checkpointing=True)
    assert images(SHAPE, once) == 20 * 48 + 2 * 20 * 24 + layer
    assert "images" not in activations(replace(SHAPE, vision=0), seen)


def test_what_a_step_adds():
    cast = replace(TRAINING, one_pass=CAST)
    assert at_work(SHAPE, cast)["bfloat16 copies of weights"] == 2 * 600
    again = replace(cast, one_pass=replace(CAST, checkpointing=True))
    # Recomputed layers make their copies one at a time; while the head is at work there are none.
    assert "bfloat16 copies of weights" not in at_work(SHAPE, again)
    many = replace(again, one_pass=replace(again.one_pass, tokens=10**8))
    assert at_work(SHAPE, many)["bfloat16 copies of weights"] == 2 * 70
    # Until the forward pass ends, autocast has all of them, and nothing is computed again yet.
    forward = forward_end(SHAPE, again)
    assert forward["bfloat16 copies of weights"] == 2 * 600
    assert forward["activations"] == 3 * 10 * 4 * 8
    assert forward_end(SHAPE, cast) == {}
    fsdp = at_work(SHAPE, replace(TRAINING, parallel="fsdp2", one_pass=replace(CAST, autocast=False)))
    assert fsdp["gathered layers"] == 2 * (2 * 70 + 300) + 6 * 70
    assert at_work(SHAPE, replace(TRAINING, parallel="zero3"))["gathered layers"] == 4 * 1000
    assert at_work(SHAPE, replace(TRAINING, reference="float32"))["reference model"] == 4000
    assert at_work(SHAPE, replace(TRAINING, reference="bfloat16"))["reference model"] == 2000


def test_no_gpu_begins_or_ends_with_more_than_it_trains_with_and_a_tensor():
    assert at_start_and_end(SHAPE, TRAINING) == {}
    assert list(gpu_moments(SHAPE, TRAINING)) == ["step"]
    # A part of everything, and one tensor whole in float32.
    fsdp = gpu_moments(SHAPE, replace(TRAINING, parallel="fsdp2"))["start and end, a tensor whole"]
    assert sum(fsdp.values()) == (4000 + 3200 + 6400) // 4 + 4 * 100
    zero = at_start_and_end(SHAPE, replace(TRAINING, parallel="zero3"))
    assert (zero["weights"], zero["moments"], zero["one tensor, whole"]) == (1000, 1600, 4 * 100)


@pytest.mark.parametrize("parallel", ["zero2", "zero3", "fsdp2"])
def test_a_reference_lies_in_parts_where_anything_does(parallel):
    both = replace(TRAINING, reference="float32")
    # Its part, and what is in no layer, gathered.
    assert at_work(SHAPE, replace(both, parallel=parallel))["reference model"] == 4000 // 4 + 4 * 300
    assert at_work(SHAPE, both)["reference model"] == 4000


def test_memory_of_the_machine():
    ddp = {"processes": PROCESS, "model as it is loaded or saved": 4000, "moments as they are": 6400}
    assert host(SHAPE, TRAINING, gpu=GIB) == {name: 4 * number for name, number in ddp.items()}
    zero = replace(TRAINING, parallel="zero3", ranks=8)
    in_parts = {"weights and moments in parts": 4 * (4000 + 6400) // 8, "one tensor as it is saved": 4 * 4 * 100}
    assert host(SHAPE, zero, gpu=GIB) == {"processes": 4 * PROCESS} | in_parts
    assert host(SHAPE, replace(zero, parallel="fsdp2"), gpu=GIB) == {
        "processes": 4 * PROCESS,
        "weights as they are read": 4 * 500,
        "one tensor as it is saved": 4 * 4 * 100,
    }
    half = replace(zero, dtype="bfloat16")
    # Moments are float32 whatever the weights are, and masters go with them.
    assert host(SHAPE, half, gpu=GIB)["weights and moments in parts"] == 4 * (2000 + 3 * 4 * 800) // 8
    on_cpu = host(SHAPE, replace(TRAINING, ranks=1, local=1), gpu=0)
    assert on_cpu["weights"] == 4000
    assert on_cpu["output head"] == head(SHAPE, PLAIN)


def test_zero2_lays_weights_flat_in_the_machine_s_memory_where_a_gpu_has_no_room_for_a_copy():
    zero = replace(TRAINING, parallel="zero2", ranks=8)
    assert "weights that DeepSpeed lays flat" not in host(SHAPE, zero, gpu=4000 + 3200)
    assert host(SHAPE, zero, gpu=4000 + 3199)["weights that DeepSpeed lays flat"] == 4 * 2 * 3200
    assert "weights that DeepSpeed lays flat" not in host(SHAPE, replace(zero, parallel="zero3"), gpu=4000)


def test_a_reference_is_read_in_parts():
    asked = replace(TRAINING, ranks=8, reference="bfloat16")
    assert host(SHAPE, replace(asked, parallel="zero3"), gpu=GIB)["reference model as it is loaded"] == 4 * 2000 // 8
    assert "reference model as it is loaded" not in host(SHAPE, replace(asked, parallel="fsdp2"), gpu=GIB)


SAMPLING = Sampling("vllm", "bfloat16", 1, 0.5, 0, longest=64, prompt=4, new_tokens=6, batch_tokens=100)


def test_keys_and_values():
    assert kv_bytes(SHAPE, "bfloat16") == 2 * 3 * 2 * 2 * 2
    assert kv_bytes(SHAPE, "float32", 2) == 2 * 3 * 1 * 2 * 4
    # A GPU holds no less than one key head.
    assert kv_bytes(SHAPE, "bfloat16", 4) == kv_bytes(SHAPE, "bfloat16", 2)
    assert at_a_time(SHAPE, SAMPLING, 4800) == 4800 / (48 * 10)


def test_what_is_left_of_vllm_s_share():
    parts = vllm_parts(SHAPE, SAMPLING, 10 * GIB)
    step = 8192 * 2 * (32 + 32) + 1024 * 11 * 8
    assert parts == {
        "weights": 2000,
        "one step": step,
        "graphs and buffers": 2 * GIB,
        "keys and values": 3 * GIB - 2000 - step,
    }
    assert vllm_parts(SHAPE, replace(SAMPLING, kv_cache=GIB), 10 * GIB)["keys and values"] == GIB
    assert vllm_parts(SHAPE, SAMPLING, GIB)["keys and values"] < 0


def test_what_transformers_holds():
    parts = transformers_parts(SHAPE, replace(SAMPLING, dtype="float32"))
    rows = 100 // 10
    assert parts == {
        "weights": 4000,
        "keys and values": 100 * 2 * 3 * 2 * 2 * 4,
        "one step": rows * (4 * (48 + 32) * 4 + 88),
    }


def test_sizes_as_people_say_them():
    assert [size(n) for n in (5, 1536, 79 * GIB, 2048 * GIB)] == ["5 B", "1.5 KiB", "79.0 GiB", "2.0 TiB"]
    assert BYTES["float32"] == 2 * BYTES["bfloat16"] == 4
