"""`python -m examples.real_model.eyes SMOLLM2 FOLDER`: a vision-language model with SmolLM2 inside, whose eyes are new.

InternVL's class (arXiv:2504.10479): its language model is SmolLM2-135M-Instruct as fetch.py makes it, word for word and
weight for weight; its vision tower of 5 million parameters and the projector between them are drawn from a seed. Until
they are trained it sees nothing: vision.toml says how.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from stages.core.errors import CosmoError, InputError
from stages.models.tiny._tokenizer import wrap
from stages.models.tiny._weights import initialise, save
from stages.models.tiny.chat_templates import INTERNVL

_NAMED = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
_END = "<|im_end|>"
# 84 x 84 is 6 x 6 patches, halved twice by pixel shuffle to nine tokens; four tiles and a thumbnail are 45.
_TILE, _PATCH, _TOKENS_A_TILE, _MOST_TILES = 84, 14, 9, 4
_TOWER = {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 1024}


def main() -> int:
    """0 with the folder's path printed; 3 where the language model is not there."""
    parser = argparse.ArgumentParser(prog="python -m examples.real_model.eyes", description=__doc__)
    parser.add_argument("words", type=Path, help="the folder that fetch.py made")
    parser.add_argument("folder", type=Path, help="where the model goes")
    parser.add_argument("--seed", type=int, default=1, help="of the tower and the projector")
    options = parser.parse_args()
    try:
        print(build(options.words, options.folder, options.seed))
    except CosmoError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return error.code
    return 0


def build(words: Path, folder: Path, seed: int) -> Path:
    """The folder, with the model in it; what is there already stays. InputError without a language model."""
    if (folder / "config.json").is_file():
        return folder
    if not (words / "config.json").is_file():
        raise InputError(f"{words} is no model folder", f"python -m examples.real_model.fetch {words}")
    from tokenizers import AddedToken
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    backend = AutoTokenizer.from_pretrained(words).backend_tokenizer
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in _NAMED.values()])
    tokenizer = wrap(backend, eos=_END, pad=_END, template=INTERNVL, **_NAMED)
    model = _joined(AutoModelForCausalLM.from_pretrained(words), tokenizer, seed)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id)
    # Written aside and moved: a folder with this name is whole.
    aside = folder.with_name(folder.name + ".part")
    save(aside, model, tokenizer, _image_files())
    aside.rename(folder)
    return folder


def _joined(words: Any, tokenizer: Any, seed: int) -> Any:
    """InternVL with the weights of this language model, and new ones for the rest."""
    import torch
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    text = {**json.loads(words.config.to_json_string()), "vocab_size": len(tokenizer)}
    config = InternVLConfig(
        text_config=text,
        vision_config={
            **_TOWER,
            "attention_bias": True,
            "image_size": [_TILE, _TILE],
            "patch_size": [_PATCH, _PATCH],
        },
        image_token_id=tokenizer.convert_tokens_to_ids(_NAMED["context_image_token"]),
        image_seq_length=_TOKENS_A_TILE,
        tie_word_embeddings=True,
    )
    model = InternVLForConditionalGeneration(config).to(torch.float32)
    initialise(model, seed)
    given = dict(words.model.state_dict())
    known_VH = given["embed_tokens.weight"]
    # Tokens that the language model has never seen begin in the middle of those that it knows.
    added = len(tokenizer) - len(known_VH)
    given["embed_tokens.weight"] = torch.cat([known_VH, known_VH.mean(0, keepdim=True).expand(added, -1)])
    model.get_decoder().load_state_dict(given)
    model.tie_weights()
    return model


def _image_files() -> dict[str, dict[str, Any]]:
    """How images are cut and scaled, for transformers' own processor."""
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
    return {
        "preprocessor_config.json": {**image, **tiles, "image_processor_type": "GotOcr2ImageProcessor"},
        "video_preprocessor_config.json": {**image, "video_processor_type": "InternVLVideoProcessor"},
        "processor_config.json": {"image_seq_length": _TOKENS_A_TILE, "processor_class": "InternVLProcessor"},
    }


if __name__ == "__main__":
    sys.exit(main())
