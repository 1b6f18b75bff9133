"""Tiny Qwen2.5-VL: window-attention vision tower, M-RoPE, any image size, 3.9 M parameters."""

from __future__ import annotations

from pathlib import Path

from stages.models.tiny._tokenizer import train, wrap
from stages.models.tiny._weights import initialise, save
from stages.models.tiny.chat_templates import QWEN2_5_VL

_SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
# The family's template without its default system line, which would only cost tokens here.
_PATCH, _MERGE = 14, 2
# One language-model token is a 28 x 28 square: 84 x 84 stays nine tokens, and no image costs more than 64.
_PIXELS = {"shortest_edge": 4 * 28 * 28, "longest_edge": 64 * 28 * 28}
# The world draws on light paper; centred on it, shapes stand out, and counting is learned much sooner.
_MEAN, _STD = [0.93, 0.93, 0.93], [0.25, 0.25, 0.25]


def _image_config() -> dict[str, object]:
    return {
        "size": _PIXELS,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "image_mean": _MEAN,
        "image_std": _STD,
        "resample": 3,
        "patch_size": _PATCH,
        "merge_size": _MERGE,
        "temporal_patch_size": 2,
        "processor_class": "Qwen2_5_VLProcessor",
    }


class TinyQwen25VL:
    """Builds the folder of a tiny Qwen2.5-VL; `version` is part of its name in the cache."""

    version = 3
    described = False
    """Whether the tokenizer has the marks of the layout `describe` as tokens of their own."""

    def build(self, folder: Path, seed: int) -> None:
        """Write the model with weights drawn from `seed`."""
        from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

        trained = train(2048, _SPECIAL, self.described)
        tokenizer = wrap(trained, eos="<|im_end|>", pad="<|endoftext|>", template=QWEN2_5_VL)
        ids = dict(zip(_SPECIAL, tokenizer.convert_tokens_to_ids(_SPECIAL), strict=True))
        config = Qwen2_5_VLConfig(
            text_config={
                "dtype": "float32",
                "vocab_size": len(tokenizer),
                "hidden_size": 256,
                "intermediate_size": 512,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "max_position_embeddings": 4096,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]},
                "bos_token_id": None,
                "eos_token_id": ids["<|im_end|>"],
                "pad_token_id": ids["<|endoftext|>"],
                "tie_word_embeddings": True,
            },
            vision_config={
                "dtype": "float32",
                "depth": 3,
                "hidden_size": 128,
                "intermediate_size": 256,
                "num_heads": 2,
                "out_hidden_size": 256,
                "patch_size": _PATCH,
                "spatial_merge_size": _MERGE,
                "temporal_patch_size": 2,
                "window_size": 112,
                "fullatt_block_indexes": [2],
            },
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
            tie_word_embeddings=True,
        )
        model = Qwen2_5_VLForConditionalGeneration(config)
        initialise(model, seed)
        model.generation_config = GenerationConfig(
            eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]], pad_token_id=ids["<|endoftext|>"]
        )
        image = _image_config()
        files = {
            "preprocessor_config.json": {**image, "image_processor_type": "Qwen2VLImageProcessor"},
            "video_preprocessor_config.json": {**image, "video_processor_type": "Qwen2VLVideoProcessor"},
        }
        save(folder, model, tokenizer, files)


PLUGIN = TinyQwen25VL()
