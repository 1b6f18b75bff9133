"""A larger Qwen2.5-VL with random weights and the tiny one's tokenizer, for figures that a toy can't give.

    python bench/sized.py FOLDER [--hidden 768] [--layers 16]

The vision tower grows with it. The default has 121 million parameters.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
HEAD = 64


def build(folder: Path, hidden: int, layers: int) -> int:
    """Write the model folder; how many parameters it has."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from stages.models.load import load_policy, save_policy
    from stages.models.policy_ref import resolve_policy

    tiny = load_policy(resolve_policy("tiny:qwen2_5_vl"), device="cpu")
    values = tiny.model.config.to_dict()
    heads = hidden // HEAD
    values["text_config"] |= {
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "layer_types": ["full_attention"] * layers,
    }
    values["vision_config"] |= {
        "hidden_size": hidden // 2,
        "intermediate_size": hidden,
        "num_heads": max(1, heads // 2),
        "out_hidden_size": hidden,
    }
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
    model.generation_config = tiny.model.generation_config
    save_policy(model, tiny.processor, folder)
    return sum(p.numel() for p in model.parameters())


def main() -> None:
    """Build what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hidden", type=int, default=768, help=f"hidden size, a multiple of {2 * HEAD}")
    parser.add_argument("--layers", type=int, default=16, help="language-model layers")
    given = parser.parse_args()
    if given.hidden % (2 * HEAD) or given.hidden <= 0:
        parser.error(f"--hidden {given.hidden} is not a multiple of {2 * HEAD}")
    print(f"{given.folder}: {build(given.folder, given.hidden, given.layers) / 1e6:.0f} million parameters")


if __name__ == "__main__":
    main()
