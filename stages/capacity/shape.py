"""A model's sizes from its config alone: built on the `meta` device, where tensors have shapes and no bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.identity import digest
from stages.core.atomic import read_json, write_json
from stages.core.cache import cache_root
from stages.core.errors import UnavailableError, first_line

_VERSION = 2
"""Raised when a `Shape` means something else: kept ones of before are not read."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the arithmetic has to know of a model."""

    model_type: str
    """The family, as transformers calls it."""
    parameters: int
    """All of them, tied ones once."""
    vision: int
    """Those of the vision tower; 0 without one."""
    language: int
    """Those of decoder, embeddings and output head, tied ones once: what `freeze_language` leaves as it is."""
    head: int
    """Those of the output head where it is a matrix of its own; 0 where it is the embedding."""
    linear: int
    """Those of linear layers, the tower's left out: what autocast copies into bfloat16."""
    layered: int
    """Those in layers, which a sharded layout gathers one at a time; the others are gathered together."""
    largest: int
    """Those of the largest layer."""
    adapter_width: int
    """Inputs and outputs of every linear layer that LoRA adapts, added up, the tower's left out."""
    vision_adapter_width: int
    """The same of the tower."""
    layers: int
    hidden: int
    intermediate: int
    """Width of a layer's MLP, as one token sees it: that of its experts together."""
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    positions: int
    """The longest sequence that the config allows."""
    vision_layers: int
    vision_hidden: int
    vision_intermediate: int
    patches: int
    """Patches that the tower merges into one token of the language model."""
    patch_values: int
    """Numbers of one patch as the processor gives it."""


def read_shape(folder: Path, trust_remote_code: bool = False) -> Shape:
    """The sizes of the model whose config.json is in a folder; weights need not be there.

    Remembered in the user cache by the config's content, since building takes seconds. UnavailableError for a config
    that transformers can't build.
    """
    text = (folder / "config.json").read_text(encoding="utf-8")
    kept = cache_root() / "shapes" / f"{digest([_VERSION, json.loads(text)])}.json"
    if kept.is_file():
        return Shape(**read_json(kept))
    try:
        shape = shape_of(_on_meta(folder, trust_remote_code))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UnavailableError(
            f"no model can be built from {folder}/config.json: {first_line(error)}",
            "a family that transformers does not know has code of its own: --set train.trust_remote_code=true runs it",
        ) from None
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, asdict(shape))
    return shape


def _on_meta(folder: Path, trust_remote_code: bool) -> Any:
    import torch
    from transformers import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
    )

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    vision = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    family: Any = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    with torch.device("meta"):
        return family.from_config(config, trust_remote_code=trust_remote_code)


def shape_of(model: Any) -> Shape:
    """The sizes of a model, real or on `meta`."""
    import torch

    from stages.models.families import family_of, language_parts

    tower = family_of(model).tower(model)
    tower = None if tower is model else tower
    head = model.get_output_embeddings()
    seen = {id(p) for p in tower.parameters()} if tower is not None else set()
    names = set(model._no_split_modules or ())
    layers = [count(m) for m in model.modules() if type(m).__name__ in names]
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    of_tower = [m for m in linear if id(m.weight) in seen]
    others = [m for m in linear if id(m.weight) not in seen]
    tied = head is not None and head.weight is model.get_input_embeddings().weight
    return Shape(
        model_type=model.config.model_type,
        parameters=count(model),
        vision=count(tower) if tower is not None else 0,
        language=sum({id(p): p.numel() for part in language_parts(model) for p in part.parameters()}.values()),
        head=0 if tied or head is None else head.weight.numel(),
        linear=sum(m.weight.numel() for m in others),
        layered=sum(layers),
        largest=max(layers, default=count(model)),
        adapter_width=sum(m.in_features + m.out_features for m in others if m is not head),
        vision_adapter_width=sum(m.in_features + m.out_features for m in of_tower),
        **_of_text(model.config.get_text_config()),
        **_of_vision(getattr(model.config, "vision_config", None), model.config),
    )


def count(module: Any) -> int:
    """Parameters of a module, tied ones once."""
    return sum(p.numel() for p in module.parameters())


def _of_text(text: Any) -> dict[str, int]:
    heads = int(text.num_attention_heads)
    experts = int(getattr(text, "num_experts_per_tok", None) or 0)
    width = int(getattr(text, "moe_intermediate_size", None) or text.intermediate_size)
    return {
        "layers": int(text.num_hidden_layers),
        "hidden": int(text.hidden_size),
        "intermediate": experts * width if experts else int(text.intermediate_size),
        "heads": heads,
        "kv_heads": int(getattr(text, "num_key_value_heads", None) or heads),
        "head_size": int(getattr(text, "head_dim", None) or text.hidden_size // heads),
        "vocabulary": int(text.vocab_size),
        "positions": int(getattr(text, "max_position_embeddings", None) or 0),
    }


def _of_vision(vision: Any, config: Any) -> dict[str, int]:
    """The tower's own sizes by the names that families give them; zeros where there is none."""
    if vision is None:
        names = ("vision_layers", "vision_hidden", "vision_intermediate", "patches", "patch_values")
        return dict.fromkeys(names, 0)
    side = _first(vision, ("patch_size",), 14)
    merged = _first(vision, ("spatial_merge_size",), 0)
    # InternVL keeps a share of the tokens; others merge a square of them, or none.
    kept = float(getattr(config, "downsample_ratio", None) or 1.0)
    frames = _first(vision, ("temporal_patch_size",), 1)
    hidden = _first(vision, ("embed_dim", "hidden_size"), 0)
    return {
        "vision_layers": _first(vision, ("depth", "num_hidden_layers"), 0),
        "vision_hidden": hidden,
        "vision_intermediate": _first(vision, ("intermediate_size", "mlp_dim"), 4 * hidden),
        "patches": merged**2 if merged else round(1 / kept**2),
        "patch_values": _first(vision, ("in_channels", "num_channels", "in_chans"), 3) * frames * side**2,
    }


def _first(config: Any, names: tuple[str, ...], otherwise: int) -> int:
    """The first of these that the config has; of a pair (height, width) its first."""
    found = next((v for name in names if (v := getattr(config, name, None)) is not None), otherwise)
    return int(found[0] if isinstance(found, list | tuple) else found)
