"""Tiny InternVL: tiles of 84 x 84 through a ViT with pixel shuffle, a Qwen2 language model, 3.3 M parameters."""

from __future__ import annotations

from pathlib import Path

from stages.models.tiny._tokenizer import train, wrap
from stages.models.tiny._weights import initialise, save
from stages.models.tiny.chat_templates import INTERNVL

_NAMED = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *_NAMED.values()]
# 84 x 84 is 6 x 6 patches, halved twice by pixel shuffle to nine tokens; six tiles and a thumbnail are 63.
_TILE, _PATCH, _TOKENS_A_TILE, _MOST_TILES = 84, 14, 9, 6


class TinyInternVL:
    """Builds the folder of a tiny InternVL; `version` is part of its name in the cache."""

    version = 3

    def build(self, folder: Path, seed: int) -> None:
        """Write the model with weights drawn from `seed`."""
        from transformers import GenerationConfig, InternVLConfig, InternVLForConditionalGeneration

        trained = train(2048, _SPECIAL)
        tokenizer = wrap(trained, eos="<|im_end|>", pad="<|endoftext|>", template=INTERNVL, **_NAMED)
        ids = dict(zip(_SPECIAL, tokenizer.convert_tokens_to_ids(_SPECIAL), strict=True))
        config = InternVLConfig(
            text_config={
                "dtype": "float32",
                "model_type": "qwen2",
                "vocab_size": len(tokenizer),
                "hidden_size": 256,
                "intermediate_size": 512,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 4096,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
                "bos_token_id": None,
                "eos_token_id": ids["<|im_end|>"],
                "pad_token_id": ids["<|endoftext|>"],
                "tie_word_embeddings": True,
            },
            vision_config={
                "dtype": "float32",
                "hidden_size": 128,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "attention_bias": True,
                "intermediate_size": 256,
                "image_size": [_TILE, _TILE],
                "patch_size": [_PATCH, _PATCH],
            },
            image_token_id=ids["<IMG_CONTEXT>"],
            image_seq_length=_TOKENS_A_TILE,
            tie_word_embeddings=True,
        )
        model = InternVLForConditionalGeneration(config)
        initialise(model, seed)
        model.generation_config = GenerationConfig(
            eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]], pad_token_id=ids["<|endoftext|>"]
        )
        image = {
            "size": {"height": _TILE, "width": _TILE},
            "do_resize": True,
            "do_rescale": True,
            "do_normalize": True,
            "do_convert_rgb": True,
            "image_mean": [0.93, 0.93, 0.93],
            "image_std": [0.25, 0.25, 0.25],
            "resample": 3,
            "processor_class": "InternVLProcessor",
        }
        tiles = {"crop_to_patches": True, "min_patches": 1, "max_patches": _MOST_TILES}
        files = {
            "preprocessor_config.json": {**image, **tiles, "image_processor_type": "GotOcr2ImageProcessor"},
            "video_preprocessor_config.json": {**image, "video_processor_type": "InternVLVideoProcessor"},
            "processor_config.json": {"image_seq_length": _TOKENS_A_TILE, "processor_class": "InternVLProcessor"},
        }
        save(folder, model, tokenizer, files)


PLUGIN = TinyInternVL()
