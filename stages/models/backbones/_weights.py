"""Initial weights and folder layout shared by the tiny backbones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def initialise(model: Any, seed: int, std: float) -> None:
    """Draw every matrix from N(0, std^2), with numpy's Philox: the same bits on every machine and torch version.

    Vectors (norm scales, biases) keep the constants that transformers gives them.
    """
    import numpy as np
    import torch

    generator = np.random.Generator(np.random.Philox(key=seed))
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters(), key=lambda item: item[0]):
            if parameter.dim() >= 2:
                drawn = generator.standard_normal(parameter.shape, dtype=np.float32) * np.float32(std)
                parameter.copy_(torch.from_numpy(drawn))


def save(folder: Path, model: Any, tokenizer: Any, files: dict[str, dict[str, Any]]) -> None:
    """An ordinary Hugging Face folder: weights, config, tokenizer, chat template, and named JSON files."""
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    # transformers 4 and vLLM know this name of the same class too.
    described = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    files = {**files, "tokenizer_config.json": {**described, "tokenizer_class": "PreTrainedTokenizerFast"}}
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
