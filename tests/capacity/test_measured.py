"""The arithmetic beside what torch does: counts of real models, and what cosmo's own packed forward keeps.

Models of 7 to 78 billion parameters are built on `meta` and computed with FakeTensor: shapes without numbers.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from stages.capacity import shape as shapes
from stages.capacity.activations import Pass, layer_bytes
from stages.capacity.shape import Shape, read_shape, shape_of
from stages.capacity.training import Training, at_work, forward_end, resident, trained
from stages.models.attention import packed_varlen
from stages.models.attention.packed_attention import use_packed_attention
from stages.models.attention.shared_inputs import TokenGroup
from stages.models.families import BLOCKS, VARLEN
from stages.train.config import LoraOptions
from stages.train.lora import Adapters
from stages.train.optim import set_frozen, trainable
from stages.train.rl.logprobs import completion_logprobs
from tests.capacity.live_memory import LiveMemory

CONFIGS = Path(__file__).parent / "configs"
MODELS = {n: Shape(**s) for n, s in json.loads((CONFIGS.parent / "shapes.json").read_text()).items()}
PASS = Pass(1, 0, half=False, autocast=False, checkpointing=False, trains_vision=False)
TRAINING = Training("ddp", 1, 1, "float32", 0, reference="", one_pass=PASS)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "cache_root", lambda: tmp_path)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "internvl", "llama"])
def test_a_config_alone_says_what_the_loaded_model_has(policies, name):
    model = policies(name).model
    shape = read_shape(Path(model.config._name_or_path))
    # Built on `meta` from the config, and counted from the weights that were read.
    assert shape == shape_of(model)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    if shape.vision:
        set_frozen(model, freeze_vision=False, freeze_language=True)
        eyes = replace(TRAINING, one_pass=replace(PASS, trains_vision=True), trains_language=False)
        assert trained(shape, eyes) == sum(p.numel() for p in trainable(model).values()) > 0
    set_frozen(model, freeze_vision=True)
    assert trained(shape, TRAINING) == sum(p.numel() for p in trainable(model).values())
    Adapters(model, LoraOptions(rank=3), 0, {})
    lora = Training("ddp", 1, 1, "float32", 3, reference="", one_pass=PASS)
    assert trained(shape, lora) == sum(p.numel() for p in trainable(model).values())


@pytest.mark.parametrize(
    ("name", "billions", "vision", "kv"),
    [
        # As the files of the models on the hub hold them.
        ("qwen2_5_vl_7b", 8_292_166_656, 676_550_144, 28 * 4),
        ("qwen2_5_vl_72b", 73_410_777_344, None, 80 * 8),
        ("llama_3_1_70b", 70_553_706_496, 0, 80 * 8),
        ("qwen2_5_vl_32b", 33_452_718_336, None, 64 * 8),
        ("internvl3_78b", 78_408_318_336, None, 80 * 8),
    ],
)
def test_real_configs_have_the_published_numbers_of_parameters(name, billions, vision, kv):
    shape = read_shape(CONFIGS / name)
    assert shape.parameters == pytest.approx(billions, rel=1e-3)
    assert vision is None or shape.vision == vision
    assert shape.layers * shape.kv_heads == kv
    # Asked again it is read from the cache, and is the same; other tests read what is written down of it.
    assert read_shape(CONFIGS / name) == shape == MODELS[name]


class Kept:
    """Bytes that autograd saves, each tensor's memory once, those of the weights and their copies left out."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._weights = {p.shape for p in model.parameters()} | {p.T.shape for p in model.parameters() if p.dim() == 2}
        self._own = {p.untyped_storage()._cdata for p in model.parameters()}
        self._found: dict[int, torch.UntypedStorage] = {}

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._own and tensor.shape not in self._weights:
            self._found[storage._cdata] = storage
        return tensor

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self._found.values())


def kept_by(model, processor, prompt: int, completions: list[int], autocast: bool) -> int:
    group = TokenGroup([7] * prompt, {}, [[8] * n for n in completions], [1.0] * len(completions))
    kept = Kept(model)
    cast = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
    with cast, torch.autograd.graph.saved_tensors_hooks(kept, lambda t: t):
        out = completion_logprobs(model, processor, [group], [], share=True)
    assert out.logprobs_NT.requires_grad
    return kept.bytes


def on_fake(folder: Path, layers: int, dtype: torch.dtype, vocabulary: int = 0):
    """A model of the config's size with so many layers, its weights of no memory; inside a FakeTensorMode."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(folder)
    text = config.get_text_config()
    text.num_hidden_layers, text.layer_types = layers, ["full_attention"] * layers
    text.vocab_size = vocabulary or text.vocab_size
    family = AutoModelForCausalLM if text is config else AutoModelForImageTextToText
    with torch.device("meta"):
        model = family.from_config(config, dtype=dtype)
    # The kernel's module makes it known to transformers; here it has only its fake.
    assert packed_varlen.packed_varlen
    use_packed_attention(model, VARLEN)
    set_frozen(model, freeze_vision=True)
    # `to_empty` swaps tensors, which fake ones refuse.
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                empty = torch.empty(p.shape, dtype=p.dtype, device="cpu")
                module._parameters[name] = torch.nn.Parameter(empty, requires_grad=p.requires_grad)
        for name, b in module._buffers.items():
            if b is not None:
                module._buffers[name] = torch.empty(b.shape, dtype=b.dtype, device="cpu")
    return model


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize(
    "name", ["qwen2_5_vl_7b", "qwen2_5_vl_32b", "qwen2_5_vl_72b", "internvl3_78b", "llama_3_1_70b"]
)
def test_a_layer_of_a_real_model_keeps_what_the_formula_says(policies, name, autocast):
    processor = policies("qwen2_5_vl" if name.startswith("qwen") else "llama").processor
    prompt, completions = 401, [803, 811]
    half = Pass(1, 0, half=True, autocast=autocast, checkpointing=False, trains_vision=False)
    dtype = torch.float32 if autocast else torch.bfloat16
    found = []
    for layers in (2, 4):
        with FakeTensorMode():
            model = on_fake(CONFIGS / name, layers, dtype)
            found.append(kept_by(model, processor, prompt, completions, autocast))
    a_layer = (found[1] - found[0]) / 2
    expected = layer_bytes(MODELS[name], half) * (prompt + sum(completions))
    # Never less than there is; beyond it the keys of repeated prompts, which are counted twice for all tokens.
    assert expected * 0.95 <= a_layer <= expected * 1.001, f"{a_layer:,} beside {expected:,}"


def test_a_layer_in_float32_without_autocast_keeps_what_the_formula_says(policies):
    policy = policies("qwen2_5_vl")
    use_packed_attention(policy.model, BLOCKS)
    prompt, completions = 101, [203, 207]
    found = kept_by(policy.model, policy.processor, prompt, completions, autocast=False)
    shape = shape_of(policy.model)
    expected = shape.layers * layer_bytes(shape, PASS) * (prompt + sum(completions))
    assert expected * 0.95 <= found <= expected * 1.5, f"{found:,} beside {expected:,}"


@pytest.mark.parametrize("vocabulary", [152_064, 1000])
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_the_peak_of_a_step_is_what_the_formulas_say(policies, checkpointing, autocast, vocabulary):
    layers, prompt, completions = 4, 1201, [3407, 3583]
    processor = policies("qwen2_5_vl").processor
    group = TokenGroup([7] * prompt, {}, [[8] * n for n in completions], [1.0] * len(completions))
    full = MODELS["qwen2_5_vl_7b"]
    linear = full.linear - (28 - layers) * full.largest - (full.vocabulary - vocabulary) * full.hidden
    # A small vocabulary shows the peak within a layer, which the head's own hides otherwise.
    shape = replace(full, layers=layers, linear=linear, vocabulary=vocabulary)
    one = Pass(prompt + sum(completions), 0, True, autocast, checkpointing, trains_vision=False)
    dtype = "float32" if autocast else "bfloat16"
    how = Training("ddp", 1, 1, dtype, 0, reference="", one_pass=one)
    with FakeTensorMode():
        model = on_fake(CONFIGS / "qwen2_5_vl_7b", layers, getattr(torch, dtype), vocabulary)
        forward, backward = peaks(model, processor, group, checkpointing, autocast)
    # What a layout holds in any case was there before.
    fixed = sum(resident(shape, how).values())
    assert expected_within(sum(at_work(shape, how).values()) - fixed, backward)
    end = forward_end(shape, how)
    assert bool(end) == (checkpointing and autocast)
    if end and vocabulary > 1000:
        assert expected_within(sum(end.values()) - fixed, forward)


def expected_within(expected: int, found: int) -> bool:
    """At most an eighth too much and a hundredth too little."""
    return found * 0.99 <= expected <= found * 1.125


def peaks(model, processor, group: TokenGroup, checkpointing: bool, autocast: bool) -> tuple[int, int]:
    """Most bytes in a forward and in a backward pass, weights and their gradients left out."""
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    if checkpointing:
        model.gradient_checkpointing_enable()
    model.train(checkpointing)
    with LiveMemory() as live:
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            out = completion_logprobs(model, processor, [group], [], share=True)
            loss = out.logprobs_NT.sum()
        forward, live.peak = live.peak, live.now
        loss.backward()
    return forward, live.peak
