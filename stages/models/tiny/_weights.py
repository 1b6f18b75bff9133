"""Initial weights and folder layout shared by the tiny backbones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def initialise(model: Any, seed: int) -> None:
    """Draw every matrix, with numpy's Philox: the same bits on every machine and torch version.

    Matrices get a standard deviation of 1 / sqrt(fan in), token embeddings 0.1. The 0.02 that large models start
    from leaves a model this small blind: measured on the built-in world, it reads no word from an image after
    160 steps at 0.02, and every word with this. Vectors (norm scales, biases) keep what transformers gives them.
    """
    import numpy as np
    import torch

    generator = np.random.Generator(np.random.Philox(key=seed))
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters(), key=lambda item: item[0]):
            if parameter.dim() >= 2:
                drawn = generator.standard_normal(parameter.shape, dtype=np.float32)
                parameter.copy_(torch.from_numpy(drawn * np.float32(_deviation(name, parameter))))


def _deviation(name: str, parameter: Any) -> float:
    if "embed_tokens" in name or "lm_head" in name:
        return 0.1
    if "cls_token" in name or "position_embedding" in name:
        return 0.02
    return float(parameter[0].numel()) ** -0.5


def save(folder: Path, model: Any, tokenizer: Any, files: dict[str, dict[str, Any]]) -> None:
    """An ordinary Hugging Face folder: weights, config, tokenizer, chat template, and named JSON files."""
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    # transformers 4 and vLLM know this name of the same class too.
    described = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    files = {**files, "tokenizer_config.json": {**described, "tokenizer_class": "PreTrainedTokenizerFast"}}
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
