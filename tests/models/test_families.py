"""One record per model family: a toy record is used everywhere, a family without one goes unshared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.modeling_outputs import BaseModelOutputWithPooling

from stages.core.errors import BadSample, UnavailableError, UsageError
from stages.engines.transformers.decoding import CopiedPrompts, SharedPrompts, decoding
from stages.engines.transformers.kv_cache import growing_cache
from stages.models import families
from stages.models.attention import packed_varlen
from stages.models.families import (
    BLOCKS,
    FAMILIES,
    Family,
    Positions,
    family_named,
    image_token_id,
    next_positions,
    prompt_positions,
    unshared_reason,
)
from stages.models.processor import PromptProcessor
from stages.train.rl.vision_cache import FrozenTower
from tests.models.made import image, policy, prompt

NEOX = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def neox():
    """A model of a family that has no record."""
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt_neox", **NEOX)).eval()


def _state(model):
    cache = growing_cache(model.config)
    ids = torch.arange(1, 5)[None]
    with torch.no_grad():
        model(input_ids=ids, past_key_values=cache, use_cache=True)
    return decoding(model, cache, torch.ones_like(ids), torch.tensor([0, 0]))


def _reversed(model, batch):
    ids = batch["input_ids"]
    return torch.arange(ids.shape[1] - 1, -1, -1).expand(2, *ids.shape), torch.tensor([100] * len(ids))


def test_a_family_is_known_by_its_record_alone(neox, monkeypatch):
    """Attention, positions, kernels and head: each is asked of the record where it is used."""
    assert unshared_reason(neox) == "not known to work for gpt_neox"
    assert isinstance(_state(neox), CopiedPrompts)
    toy = Family("gpt_neox", kernels=(BLOCKS,), positions=Positions(_reversed, axes=(2,)))
    monkeypatch.setitem(FAMILIES, "gpt_neox", toy)
    assert unshared_reason(neox) is None
    assert isinstance(_state(neox), SharedPrompts)
    assert neox.config._attn_implementation == BLOCKS
    positions, following = prompt_positions(neox, {"input_ids": torch.zeros(3, 4, dtype=torch.long)})
    assert positions.shape == (2, 3, 4)
    assert positions[0, 0].tolist() == [3, 2, 1, 0]
    assert next_positions(neox, following, 5).tolist() == [[[105]] * 3] * 2
    assert packed_varlen.unusable_reason(neox, torch.device("cpu")) == "not known to work for gpt_neox"
    monkeypatch.setitem(FAMILIES, "gpt_neox", replace(toy, unshared="its layers alternate"))
    assert unshared_reason(neox) == "its layers alternate"


def test_a_record_decides_how_prompts_are_made(monkeypatch):
    """Placeholder, processor, feature count and further inputs."""
    source = policy("tiny:internvl")
    toy = replace(
        FAMILIES["internvl"],
        placeholder="bos_token_id",
        renderer_ids=lambda ids, token: [*ids, token],
        image_processor="LlavaProcessor",
    )
    config = AutoConfig.from_pretrained(source.ref.path)
    config.bos_token_id = 7
    loaded = []
    monkeypatch.setitem(FAMILIES, "internvl", toy)
    monkeypatch.setattr("stages.models.find_processor.without_video", lambda name: loaded.append(name) or _whole())
    processor = PromptProcessor(source.ref.path, config)
    assert loaded == ["LlavaProcessor"]
    assert processor.image_token_id == 7
    assert processor.renderer_ids([1, 2]) == [1, 2, 7]
    marks = replace(toy, extra_inputs=lambda ids, token: {"seen": ids == token}, feature_count=lambda *_: 5)
    monkeypatch.setitem(FAMILIES, "internvl", replace(marks, placeholder="image_token_id"))
    processor = PromptProcessor(source.ref.path, AutoConfig.from_pretrained(source.ref.path))
    assert "seen" in processor.batch([[1, 2]], [{}])
    with pytest.raises(Exception, match="9 image tokens for 5 features"):
        processor.encode(prompt(0, 1)[0], [image(84, 84)])


def _whole():
    return families.without_video("InternVLProcessor")


def test_a_family_without_a_record_is_looked_up_in_the_model():
    unknown = family_named("nothing_yet")
    grid = {"image_grid_thw": torch.tensor([[1, 4, 6]])}
    patches = SimpleNamespace(image_processor=SimpleNamespace(merge_size=2), image_seq_length=9)
    assert unknown.feature_count(patches, grid) == 6
    # A length that a family names for all images may be a maximum: nothing is refused by it.
    assert unknown.feature_count(patches, {"pixel_values": torch.zeros(3, 1)}) is None
    assert unknown.feature_count(SimpleNamespace(), {"pixel_values": torch.zeros(3, 1)}) is None
    assert image_token_id(unknown, SimpleNamespace(image_token_index=4), None) == 4
    assert image_token_id(unknown, SimpleNamespace(), SimpleNamespace(image_token_id=5)) == 5
    with pytest.raises(UnavailableError, match="SimpleNamespace does not say which token"):
        image_token_id(unknown, SimpleNamespace(), SimpleNamespace())
    assert (unknown.unshared, unknown.head_is_last) == ("not known to work for nothing_yet", False)


def test_a_forward_that_can_not_do_without_images_takes_no_words_alone(monkeypatch):
    """BLIP-2's has `pixel_values` without a default: each prompt of words would fail in the middle of a batch."""
    here = policy("tiny:internvl")
    processor = PromptProcessor(here.ref.path, here.model.config)

    def forward(self, pixel_values, input_ids=None, attention_mask=None, **more):
        raise AssertionError

    processor.batches.fit(here.model)
    processor.encode(*prompt(0))
    monkeypatch.setattr(type(here.model), "forward", forward)
    processor.batches.fit(here.model)
    with pytest.raises(BadSample, match="no_image: internvl takes no prompt without an image"):
        processor.encode(*prompt(0))


@dataclass
class _WiderOutput(BaseModelOutputWithPooling):
    deepstack_features: torch.Tensor | None = None


class _WiderTower(torch.nn.Module):
    """A tower that also returns what later layers need, as Qwen3-VL's does."""

    def forward(self, pixel_values):
        return _WiderOutput(pixel_values, pixel_values[::4], deepstack_features=pixel_values)


class _BareTower(torch.nn.Module):
    def forward(self, pixel_values):
        return pixel_values


@pytest.mark.parametrize(
    ("tower", "words"),
    [
        (_WiderTower(), r"_WiderTower returns deepstack_features.*'qwen2_5_vl' does not name it"),
        (_BareTower(), "_BareTower returns a Tensor"),
    ],
)
def test_a_frozen_tower_whose_outputs_would_be_lost_is_refused_by_name(tower, words):
    model = SimpleNamespace(config=policy("tiny:qwen2_5_vl").model.config, get_encoder=lambda modality: tower)
    frozen = FrozenTower(model)
    pixels = torch.zeros(8, 4)
    with frozen.cached([("p", {"pixel_values": pixels})]), pytest.raises(UsageError, match=words) as caught:
        tower(pixels)
    assert "--set prefix_sharing=off" in caught.value.hint


def test_the_record_names_what_a_tower_returns_and_where(monkeypatch):
    tower = _WiderTower()
    record = replace(
        FAMILIES["qwen2_5_vl"],
        vision_outputs=("last_hidden_state", "pooler_output", "deepstack_features"),
        tower=lambda model: model.eyes,
    )
    monkeypatch.setitem(FAMILIES, "qwen2_5_vl", record)
    model = SimpleNamespace(config=policy("tiny:qwen2_5_vl").model.config, eyes=tower)
    pixels = torch.arange(32.0).reshape(8, 4)
    prompts = [("p", {"pixel_values": pixels[:4]}), ("q", {"pixel_values": pixels[4:]})]
    frozen = FrozenTower(model)
    with frozen.cached(prompts):
        first = tower(pixels)
    with frozen.cached(prompts[::-1]):
        again = tower(None)
    assert isinstance(again, _WiderOutput)
    assert torch.equal(again["deepstack_features"], first["deepstack_features"].roll(4, 0))


def test_every_record_is_of_a_family_that_transformers_has():
    for name, family in FAMILIES.items():
        assert family.name == name
        config = AutoConfig.for_model(name)
        vision = type(config) in AutoModelForImageTextToText._model_mapping
        if family.vision_outputs or family.image_processor is not None:
            assert vision
