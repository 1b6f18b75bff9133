"""A toy of each model family: an ordinary Hugging Face folder of some ten thousand random parameters.

Made from transformers' own configuration, model and processor classes, so that what is tested is the family's code. A
toy is described once, as data where it can be; `build` writes the folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from stages.models.tiny._tokenizer import train, wrap

_ENDS = ("<|endoftext|>", "<|im_end|>")
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
_EYE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@dataclass(frozen=True)
class Toy:
    """What sets one family's toy apart."""

    config: str
    """The configuration class's name."""
    model: str
    """The model class's name."""
    settings: Callable[[dict[str, int], int], dict[str, Any]]
    """(ids of the special tokens by name, vocabulary) -> the configuration."""
    special: tuple[str, ...] = ()
    """Special tokens beside those that end a text."""
    image: str = ""
    """What the chat template writes for an image."""
    processor: Callable[[Any], Any] | None = None
    """The tokenizer -> the processor; None for a model of words."""
    named: dict[str, str] = field(default_factory=dict)
    """Attributes of the tokenizer."""


def build(name: str, folder: Path) -> Path:
    """Write the toy's folder, the same bits every time, and return it."""
    toy = TOYS[name]
    special = [*_ENDS, "<|im_start|>", *toy.special]
    tokenizer = wrap(train(640, special), eos="<|im_end|>", pad=_ENDS[0], template=_template(toy.image), **toy.named)
    ids = dict(zip(special, tokenizer.convert_tokens_to_ids(special), strict=True))
    config = getattr(transformers, toy.config)(**toy.settings(ids, len(tokenizer)))
    torch.manual_seed(0)
    model = getattr(transformers, toy.model)(config)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            if weight.dim() >= 2:
                weight.normal_(0.0, float(weight[0].numel()) ** -0.5)
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=[ids["<|im_end|>"], ids[_ENDS[0]]], pad_token_id=ids[_ENDS[0]]
    )
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if toy.processor is not None:
        toy.processor(tokenizer).save_pretrained(folder)
    return folder


def _template(image: str) -> str:
    return (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['content'] is string %}"
        "{{ m['content'] }}{% else %}{% for part in m['content'] %}{% if part['type'] == 'image' %}{{ '"
        + image
        + "' }}"
        "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )


def _words(ids: dict[str, int], vocabulary: int, **more: Any) -> dict[str, Any]:
    ends = {"pad_token_id": ids[_ENDS[0]], "eos_token_id": ids["<|im_end|>"], "bos_token_id": None}
    return {"vocab_size": vocabulary, **_TEXT, **ends, **more}


def _of_words(kind: str, **more: Any) -> Toy:
    return Toy(f"{kind}Config", f"{kind}ForCausalLM", lambda ids, size: _words(ids, size, **more))


_QWEN = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")
_LINEAR = {
    "layer_types": ["linear_attention", "linear_attention", "full_attention"],
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2], "mrope_interleaved": True}


def _qwen(kind: str, eye: dict[str, Any], **text: Any) -> Toy:
    def settings(ids: dict[str, int], size: int) -> dict[str, Any]:
        return {
            "text_config": _words(ids, size, head_dim=8, rope_parameters=dict(_ROPE), **text),
            "vision_config": {"depth": 3, "out_hidden_size": 32, "num_heads": 2, **eye},
            "tie_word_embeddings": True,
            "image_token_id": ids["<|image_pad|>"],
            "video_token_id": ids["<|video_pad|>"],
            "vision_start_token_id": ids["<|vision_start|>"],
            "vision_end_token_id": ids["<|vision_end|>"],
        }

    return Toy(f"{kind}Config", f"{kind}ForConditionalGeneration", settings, _QWEN, "".join(_QWEN[:3]), _qwen_processor)


def _qwen_processor(tokenizer: Any) -> Any:
    from stages.models.families import without_video

    size = {"shortest_edge": 4 * 32 * 32, "longest_edge": 16 * 32 * 32}
    images = transformers.Qwen2VLImageProcessorPil(size=size, patch_size=16)
    tokenizer.image_token = "<|image_pad|>"
    return without_video("Qwen3VLProcessor")(images, tokenizer, chat_template=tokenizer.chat_template)


_DEEP = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0, 1],
}
_PLAIN = {name: value for name, value in _DEEP.items() if name != "deepstack_visual_indexes"}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def _eyes_of(kind: str, **more: Any) -> dict[str, Any]:
    return {"model_type": kind, **_EYE, "image_size": 56, "patch_size": 14, **more}


def _llava(kind: str, processor: Callable[[Any], Any], eye: dict[str, Any], **more: Any) -> Toy:
    def settings(ids: dict[str, int], size: int) -> dict[str, Any]:
        text = {"model_type": "llama", **_words(ids, size)}
        ends = {"image_token_index": ids["<image>"], "tie_word_embeddings": True, "vision_feature_layer": -1}
        return {"text_config": text, "vision_config": eye, **ends, **more}

    named = {"image_token": "<image>"}
    model = f"{kind}ForConditionalGeneration"
    return Toy(f"{kind}Config", model, settings, ("<image>",), "<image>\n", processor, named)


_PINS = [[56, 112], [112, 56], [112, 112]]
_CROP = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
_CLIP = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}


def _llava_next_processor(tokenizer: Any) -> Any:
    images = transformers.LlavaNextImageProcessorPil(image_grid_pinpoints=_PINS, **_CROP)
    return transformers.LlavaNextProcessor(images, tokenizer, chat_template=tokenizer.chat_template, **_CLIP)


def _llava_processor(tokenizer: Any) -> Any:
    images = transformers.CLIPImageProcessorPil(**_CROP)
    return transformers.LlavaProcessor(images, tokenizer, chat_template=tokenizer.chat_template, **_CLIP)


def _onevision_processor(tokenizer: Any) -> Any:
    from stages.models.families import without_video

    images = transformers.LlavaOnevisionImageProcessorPil(
        size={"height": 56, "width": 56}, image_grid_pinpoints=[[56, 56], *_PINS]
    )
    kind = without_video("LlavaOnevisionProcessor")
    strategy = {"num_image_tokens": 16, "vision_feature_select_strategy": "full"}
    return kind(images, tokenizer, chat_template=tokenizer.chat_template, **strategy)


_GEMMA = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}


def _gemma3(ids: dict[str, int], size: int) -> dict[str, Any]:
    layers = ["sliding_attention", "sliding_attention", "full_attention"]
    text = _words(ids, size, head_dim=8, sliding_window=16, layer_types=layers, query_pre_attn_scalar=8)
    tokens = {f"{name.replace('_token', '')}_token_index": ids[token] for name, token in _GEMMA.items()}
    eye = _eyes_of("siglip_vision_model", vision_use_head=False)
    return {"text_config": text, "vision_config": eye, "mm_tokens_per_image": 4, "tie_word_embeddings": True, **tokens}


def _gemma3_processor(tokenizer: Any) -> Any:
    images = transformers.Gemma3ImageProcessorPil(size={"height": 56, "width": 56})
    return transformers.Gemma3Processor(images, tokenizer, image_seq_length=4, chat_template=tokenizer.chat_template)


def _paligemma(ids: dict[str, int], size: int) -> dict[str, Any]:
    text = {"model_type": "gemma", **_words(ids, size, head_dim=8)}
    eye = _eyes_of("siglip_vision_model", vision_use_head=False, projection_dim=32)
    tokens = {"image_token_index": ids["<image>"], "tie_word_embeddings": True}
    return {"text_config": text, "vision_config": eye, "projection_dim": 32, **tokens}


def _paligemma_processor(tokenizer: Any) -> Any:
    images = transformers.SiglipImageProcessorPil(size={"height": 56, "width": 56})
    images.image_seq_length = 16
    return transformers.PaliGemmaProcessor(images, tokenizer, chat_template=tokenizer.chat_template)


def _mllama(ids: dict[str, int], size: int) -> dict[str, Any]:
    text = _words(ids, size, cross_attention_layers=[1, 3], rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    eye = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "attention_heads": 2,
        "intermediate_size": 32,
        "vision_output_dim": 32,
        "image_size": 56,
        "patch_size": 14,
        "max_num_tiles": 4,
        "intermediate_layers_indices": [1],
    }
    text |= {"num_hidden_layers": 4, "tie_word_embeddings": False, "bos_token_id": ids["<bos>"]}
    return {"text_config": text, "vision_config": eye, "image_token_index": ids["<|image|>"]}


def _mllama_processor(tokenizer: Any) -> Any:
    images = transformers.MllamaImageProcessorPil(size={"height": 56, "width": 56}, max_image_tiles=4)
    return transformers.MllamaProcessor(images, tokenizer, chat_template=tokenizer.chat_template)


_HUNYUAN = {"image_token": "<imgpad>", "image_start_token": "<img>", "image_end_token": "</img>"}


def _hunyuan(ids: dict[str, int], size: int) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2, 2]}
    eye = {**_EYE, "out_hidden_size": 32, "patch_size": 16, "text_hidden_size": 32, "max_image_size": 256}
    tokens = {"image_token_id": "<imgpad>", "im_start_id": "<img>", "im_end_id": "</img>", "im_newline_id": "<nl>"}
    text = _words(ids, size, head_dim=16, rope_parameters=rope)
    return {"text_config": text, "vision_config": eye, "tie_word_embeddings": True} | {
        name: ids[token] for name, token in tokens.items()
    }


def _hunyuan_processor(tokenizer: Any) -> Any:
    # transformers' index says that it needs torchvision, and it does not.
    from transformers.models.hunyuan_vl.image_processing_pil_hunyuan_vl import HunYuanVLImageProcessorPil

    images = HunYuanVLImageProcessorPil(size={"shortest_edge": 4 * 32 * 32, "longest_edge": 16 * 32 * 32})
    return transformers.HunYuanVLProcessor(images, tokenizer, chat_template=tokenizer.chat_template)


_EMU = {
    "image_token": "<image>",
    "boi_token": "<|image start|>",
    "eoi_token": "<|image end|>",
    "image_wrapper_token": "<|image token|>",
    "eof_token": "<|extra_201|>",
}
_SEEN = tuple(f"<|visual token {number:06d}|>" for number in range(16))


def _emu3(ids: dict[str, int], size: int) -> dict[str, Any]:
    seen = {
        "codebook_size": len(_SEEN),
        # Its normalisation has groups of 32 channels.
        "base_channels": 32,
        "hidden_size": 32,
        "channel_multiplier": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "attn_resolutions": [],
    }
    text = _words(ids, size, tie_word_embeddings=False, bos_token_id=ids["<bos>"])
    return {"text_config": text, "vq_config": seen, "vocabulary_map": dict(ids)}


def _emu3_processor(tokenizer: Any) -> Any:
    images = transformers.Emu3ImageProcessor(min_pixels=32 * 32, max_pixels=64 * 64)
    return transformers.Emu3Processor(images, tokenizer, chat_template=tokenizer.chat_template)


TOYS: dict[str, Toy] = {
    "emu3": Toy(
        "Emu3Config",
        "Emu3ForConditionalGeneration",
        _emu3,
        (*_EMU.values(), "<|extra_200|>", "<bos>", *_SEEN),
        "<image>",
        _emu3_processor,
        {**_EMU, "bos": "<bos>"},
    ),
    "gemma3": Toy(
        "Gemma3Config",
        "Gemma3ForConditionalGeneration",
        _gemma3,
        tuple(_GEMMA.values()),
        "<start_of_image>",
        _gemma3_processor,
        _GEMMA,
    ),
    "hunyuan_vl": Toy(
        "HunYuanVLConfig",
        "HunYuanVLForConditionalGeneration",
        _hunyuan,
        (*_HUNYUAN.values(), "<nl>"),
        "<img><imgpad></img>",
        _hunyuan_processor,
        _HUNYUAN,
    ),
    "llava": _llava("Llava", _llava_processor, _eyes_of("clip_vision_model", projection_dim=16), image_seq_length=16),
    "llava_next": _llava(
        "LlavaNext",
        _llava_next_processor,
        _eyes_of("clip_vision_model", projection_dim=16),
        image_grid_pinpoints=_PINS,
        image_seq_length=16,
    ),
    "llava_onevision": _llava(
        "LlavaOnevision",
        _onevision_processor,
        _eyes_of("siglip_vision_model", vision_use_head=False),
        image_grid_pinpoints=[[56, 56], *_PINS],
        vision_feature_select_strategy="full",
    ),
    "mllama": Toy(
        "MllamaConfig",
        "MllamaForConditionalGeneration",
        _mllama,
        ("<|image|>", "<bos>"),
        "<|image|>",
        _mllama_processor,
        {"image_token": "<|image|>", "bos": "<bos>"},
    ),
    "paligemma": Toy(
        "PaliGemmaConfig",
        "PaliGemmaForConditionalGeneration",
        _paligemma,
        ("<image>", "<bos>"),
        "<image>",
        _paligemma_processor,
        {"image_token": "<image>", "bos": "<bos>"},
    ),
    "qwen3_5": _qwen("Qwen3_5", _PLAIN, **_LINEAR),
    "qwen3_vl": _qwen("Qwen3VL", _DEEP),
    "qwen3_vl_moe": _qwen("Qwen3VLMoe", _DEEP, **_EXPERTS),
    "gemma2": _of_words("Gemma2", head_dim=8),
    "granitemoe": _of_words("GraniteMoe", num_local_experts=4, logits_scaling=4.0),
    "llama": _of_words("Llama"),
    "mamba": Toy(
        "MambaConfig",
        "MambaForCausalLM",
        lambda ids, size: {
            "vocab_size": size,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "state_size": 8,
            "bos_token_id": None,
            "pad_token_id": ids[_ENDS[0]],
            "eos_token_id": ids["<|im_end|>"],
        },
    ),
    "mamba2": Toy(
        "Mamba2Config",
        "Mamba2ForCausalLM",
        lambda ids, size: {
            "vocab_size": size,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_heads": 8,
            "head_dim": 8,
            "state_size": 8,
            "n_groups": 1,
            "expand": 2,
            "chunk_size": 16,
            "tie_word_embeddings": True,
            "max_position_embeddings": 2048,
            "pad_token_id": ids[_ENDS[0]],
            "eos_token_id": ids["<|im_end|>"],
        },
    ),
    "mistral": _of_words("Mistral"),
    "phi3": _of_words("Phi3"),
    "qwen3": _of_words("Qwen3", head_dim=8),
    "qwen3_moe": _of_words("Qwen3Moe", head_dim=8, **_EXPERTS),
    "qwen3_next": _of_words("Qwen3Next", head_dim=8, shared_expert_intermediate_size=16, **_EXPERTS, **_LINEAR),
}
