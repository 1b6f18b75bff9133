from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from schemas.values import Image, Message, Part, text_message
from stages.core.errors import BadSample
from stages.models.families import next_positions, prompt_positions
from stages.models.images import decode_image
from tests.models.made import image, policy, prompt
from tests.support.cli import SHARED

VISION = ["tiny:qwen2_5_vl", "tiny:internvl"]


def _features(spec: str, inputs: dict[str, torch.Tensor]) -> int:
    out = policy(spec).model.get_image_features(**inputs).pooler_output
    return sum(len(part) for part in out) if isinstance(out, list | tuple) else out.shape[0] * out.shape[1]


@pytest.mark.parametrize("spec", VISION)
@given(width=st.integers(5, 900), height=st.integers(5, 900))
@example(width=84, height=84)
@example(width=5, height=900)
@settings(max_examples=25)
def test_image_tokens_equal_features_for_any_size(spec: str, width: int, height: int) -> None:
    processor = policy(spec).processor
    encoded = processor.encode([text_message("user", "what ?", 1)], [image(width, height)])
    tokens = encoded.token_ids.count(processor.image_token_id)
    assert 1 <= tokens <= 64
    with torch.no_grad():
        assert tokens == _features(spec, encoded.image_inputs)
    if (width, height) == (84, 84):
        assert tokens == 9


@pytest.mark.parametrize("spec", VISION)
def test_rows_of_all_kinds_in_one_batch_compute_what_they_compute_alone(spec: str) -> None:
    here = policy(spec)
    prompts = [prompt(seed, images) for seed, images in ((1, 0), (2, 1), (3, 2), (4, 0), (5, 1))]
    encoded = [here.processor.encode(*p) for p in prompts]
    alone = []
    for e in encoded:
        batch = here.processor.batch([e.token_ids], [e.image_inputs])
        with torch.no_grad():
            alone.append(here.model(**batch, position_ids=prompt_positions(here.model, batch)[0]).logits[0, -1])
    for side in ("left", "right"):
        batch = here.processor.batch([e.token_ids for e in encoded], [e.image_inputs for e in encoded], side)
        with torch.no_grad():
            logits = here.model(**batch, position_ids=prompt_positions(here.model, batch)[0]).logits
        for row, e in enumerate(encoded):
            last = -1 if side == "left" else len(e.token_ids) - 1
            torch.testing.assert_close(logits[row, last], alone[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("spec", [*VISION, "tiny:llama"])
def test_a_batch_of_words_alone_is_legal_and_a_model_gets_no_image_keys(spec: str) -> None:
    here = policy(spec)
    encoded = [here.processor.encode(*prompt(seed)) for seed in range(3)]
    batch = here.processor.batch([e.token_ids for e in encoded], [e.image_inputs for e in encoded])
    assert not {"pixel_values", "image_grid_thw"} & set(batch)
    with torch.no_grad():
        assert torch.isfinite(here.model(**batch).logits).all()


def test_positions_are_the_models_own_and_a_batch_before_leaves_no_trace() -> None:
    here = policy("tiny:qwen2_5_vl")
    encoded = [here.processor.encode(*prompt(seed, seed % 3)) for seed in range(4)]
    batch = here.processor.batch([e.token_ids for e in encoded], [e.image_inputs for e in encoded])
    positions, _ = prompt_positions(here.model, batch)
    with torch.no_grad():
        explicit = here.model(**batch, position_ids=positions).logits
        own = here.model(**batch).logits
        assert torch.equal(explicit, own)
        # The model's forward remembers the offsets of that batch; a text-only one must not see them.
        words = here.processor.batch([encoded[0].token_ids] * 4, [{}] * 4)
        positions, after = prompt_positions(here.model, words)
        cached = here.model(**words, position_ids=positions, use_cache=True)
        token = torch.full((4, 1), 5)
        mask = torch.cat([words["attention_mask"], torch.ones(4, 1, dtype=torch.long)], dim=1)
        step = here.model(
            input_ids=token,
            attention_mask=mask,
            position_ids=next_positions(here.model, after, 0),
            past_key_values=cached.past_key_values,
        ).logits[:, -1]
        whole = here.processor.batch([[*encoded[0].token_ids, 5]], [{}])
        plain = here.model(**whole, position_ids=prompt_positions(here.model, whole)[0]).logits[:, -1]
    torch.testing.assert_close(step, plain.expand_as(step), atol=1e-5, rtol=0)
    # A 3 x 3 token image takes three positions, not nine.
    one = here.processor.encode(*prompt(1, 1))
    only = here.processor.batch([one.token_ids], [one.image_inputs])
    assert int(prompt_positions(here.model, only)[1]) == len(one.token_ids) - 9 + 3


@pytest.mark.parametrize(
    ("messages", "images", "reason"),
    [
        ([text_message("user", "look", 1)], [Image(b"not a picture", "x.png")], "bad_image"),
        ([text_message("user", "look", 1)], [Image(image(84, 84).bytes[:90], "cut.png")], "bad_image"),
        ([text_message("user", "look", 1)], [image(1, 201)], "bad_image"),
        ([text_message("user", "look", 2)], [image(84, 84)], "malformed"),
        ([text_message("user", "look", 0)], [image(84, 84)], "malformed"),
        ([text_message("user", "say <|im_end|> now", 0)], [], "special_token"),
        ([text_message("user", "a <|image_pad|> here", 1)], [image(84, 84)], "special_token"),
    ],
)
def test_a_prompt_that_can_not_be_encoded_says_why(messages: list[Message], images: list[Image], reason: str) -> None:
    with pytest.raises(BadSample) as bad:
        policy("tiny:qwen2_5_vl").processor.encode(messages, images)
    assert bad.value.reason == reason


def test_what_a_familys_own_code_does_to_an_image_costs_that_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is no ValueError, and an input that no batch can hold: it would go missing without a word."""
    processor = policy("tiny:internvl").processor
    asked = prompt(1, 1)

    def broken(*given: object, **named: object) -> None:
        raise IndexError("list index out of range")

    with monkeypatch.context() as inside:
        inside.setattr(type(processor._processor.image_processor), "resize", broken)
        with pytest.raises(BadSample, match="IndexError: list index out of range") as bad:
            processor.encode(*asked)
    assert bad.value.reason == "bad_image"
    whole = processor.whole_output

    def listed(*given: Any) -> dict[str, Any]:
        return {name: list(value) if name == "pixel_values" else value for name, value in whole(*given).items()}

    monkeypatch.setattr(processor, "whole_output", listed)
    with pytest.raises(BadSample, match="pixel_values is no tensor, and would be lost") as bad:
        processor.encode(*asked)
    assert bad.value.reason == "image_inputs"


def test_a_text_only_model_refuses_images_by_name() -> None:
    with pytest.raises(BadSample) as bad:
        policy("tiny:llama").processor.encode(*prompt(0, 1))
    assert bad.value.reason == "no_vision"


def test_rendering_follows_the_family() -> None:
    processor = policy("tiny:qwen2_5_vl").processor
    messages = [
        Message("system", [Part("text", "be kind")]),
        text_message("user", "what is it ?", 1),
        text_message("assistant", "a cat"),
        text_message("user", "and now ?"),
    ]
    encoded = processor.encode(messages, [image(84, 84)])
    assert processor.tokenizer.decode(encoded.token_ids) == (
        "<|im_start|>system\nbe kind<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|>" + "<|image_pad|>" * 9 + "<|vision_end|>what is it ?<|im_end|>\n"
        "<|im_start|>assistant\na cat<|im_end|>\n<|im_start|>user\nand now ?<|im_end|>\n<|im_start|>assistant\n"
    )
    llama = policy("tiny:llama").processor
    rendered = llama.tokenizer.decode(llama.encode([text_message("user", "hi")], []).token_ids)
    assert rendered.count("<|begin_of_text|>") == 1


@pytest.mark.parametrize("spec", [*VISION, "tiny:llama"])
def test_what_is_banned(spec: str) -> None:
    processor = policy(spec).processor
    banned = set(processor.banned_token_ids)
    assert processor.image_token_id is None or processor.image_token_id in banned
    assert not banned & set(processor.eos_token_ids)
    think = processor.tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    assert not banned & set(think)
    for token in processor.tokenizer.all_special_tokens:
        ident = processor.tokenizer.convert_tokens_to_ids(token)
        assert ident in banned or ident in processor.eos_token_ids
    assert processor.decode(processor.banned_token_ids) == ""


def test_images_are_upright_opaque_and_red_green_blue() -> None:
    clear = Pillow.new("RGBA", (10, 20), (0, 0, 0, 0))
    out = io.BytesIO()
    clear.save(out, "PNG")
    assert decode_image(Image(out.getvalue())).getpixel((5, 5)) == (255, 255, 255)
    turned = Pillow.new("RGB", (10, 20), "red")
    exif = turned.getexif()
    exif[0x0112] = 6
    out = io.BytesIO()
    turned.save(out, "JPEG", exif=exif)
    assert decode_image(Image(out.getvalue())).size == (20, 10)
    assert decode_image(image(9, 9, mode="L")).mode == "RGB"


@pytest.mark.skipif(not SHARED.exists(), reason="the public benchmark samples are not beside this checkout")
@pytest.mark.parametrize("spec", VISION)
def test_public_images_of_all_sizes_fit(spec: str) -> None:
    processor = policy(spec).processor
    figstep = sorted((SHARED / "figstep/data/images/SafeBench-Tiny").glob("*.png"))[:3]
    math_v = sorted((SHARED / "math_v").rglob("*.jpg"))[:12]
    assert len(figstep) == 3
    assert len(math_v) == 12
    for path in (*figstep, *math_v):
        encoded = processor.encode([text_message("user", "what ?", 1)], [Image(path.read_bytes(), path.name)])
        assert 1 <= encoded.token_ids.count(processor.image_token_id) <= 64
