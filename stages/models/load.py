"""Load and save policies: one path for a tiny model, a local folder and a hub model."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
)
from transformers.utils import logging as transformers_logging

from stages.core.errors import CosmoError, UnavailableError, UsageError, what_failed
from stages.models.policy_ref import PolicyRef
from stages.models.processor import PromptProcessor
from stages.models.value_model import add_head
from stages.models.value_record import ValueRecord, record_of

# transformers' classes for one number a sequence, and the head they add to a language model.
_SCALAR, _HEAD = "ForSequenceClassification", "score.weight"
_LAYERS = re.compile(r"layers?$|^depth$|blocks$")
_MOST_UNUSED_LAYERS = 256
# Tied and fused weights, adapters and heads of one's own: a file may hold less than a model has, but not by so much.
_MOST_MISSING = 4
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(slots=True)
class Policy:
    """A model ready for use, and all that feeds it."""

    ref: PolicyRef
    """Which one it is."""
    model: Any
    """The transformers model, in eval mode."""
    processor: PromptProcessor
    """Its tokenizer and image processor."""
    device: torch.device
    """Where its weights are."""


def load_policy(
    ref: PolicyRef, *, device: str = "auto", dtype: str = "auto", trust_remote_code: bool = False
) -> Policy:
    """Load a resolved policy. `auto` is the first GPU in bfloat16 where there is one, else the CPU in float32.

    Raises UnavailableError when the device, the family or the weights can't be had.
    """
    return _load(_load_model, ref, device, dtype, trust_remote_code)


def load_within(
    ref: PolicyRef, room: int, scratch: Path, *, dtype: str = "auto", trust_remote_code: bool = False
) -> Policy:
    """A policy on the CPU with at most `room` bytes of its weights in memory, beside the layer that is at work.

    The others are read from their files in each forward pass. Weights that transformers converts on reading are put
    into the folder `scratch`, which has to stay. Raises as `load_policy` does.
    """
    placed: dict[str, Any] = {"device_map": "auto", "max_memory": {"cpu": room}, "offload_folder": str(scratch)}
    return _load(partial(_load_model, **placed), ref, "cpu", dtype, trust_remote_code)


def load_reward_model(
    ref: PolicyRef,
    *,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    new_head: bool = True,
) -> Policy:
    """Load a text-only model with a head that gives one number a sequence; a new head gives 0 to all.

    Raises UsageError for a vision-language model: no family here has such a head that is given images. Likewise,
    without `new_head`, for a model that has no head yet.
    """
    return _load(partial(_load_scalar, new_head=new_head), ref, device, dtype, trust_remote_code)


def load_value_model(
    ref: PolicyRef,
    record: ValueRecord | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> Policy:
    """Load a model with a value head: the folder's own, or a new one as `record` says, which gives 0.5 to all.

    UsageError without `record` for a folder that has no head yet, and for one of other dimensions than `record`'s.
    """
    return _load(partial(_load_valued, record), ref, device, dtype, trust_remote_code)


def _load(
    load: Callable[[Path, Any, torch.dtype, bool], Any],
    ref: PolicyRef,
    device: str,
    dtype: str,
    trust_remote_code: bool,
) -> Policy:
    """The model as `load` makes it, on its device, with its processor."""
    target = _device(device)
    if not (ref.path / "config.json").is_file():
        raise UnavailableError(
            f"the policy of {ref.spec} is not there any more: {ref.path} has no config.json",
            "it was removed to save disk, or by hand; rerun the train command after deleting its receipts",
        )
    # The runner's own progress is on stderr; a second bar would tear it.
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(ref.path, trust_remote_code=trust_remote_code, local_files_only=True)
        _check_goes_on(ref, config)
        processor = PromptProcessor(ref.path, config, trust_remote_code=trust_remote_code)
        model = load(ref.path, config, _dtype(dtype, target), trust_remote_code)
        processor.batches.fit(model)
    # It says already what is wrong, or is this machine's and not the folder's.
    except (CosmoError, MemoryError):
        raise
    # A file that is missing or cut short, an unknown family, weights of another shape; and with a stranger's config
    # or tokenizer the libraries fail in any way: a size of 0 is divided by, a list is asked for a key.
    except Exception as error:
        line = what_failed(error)
        raise UnavailableError(f"can't load {ref.spec}: {line}", _hint(line)) from None
    # What lies partly on disk stays where it was placed.
    model = model if getattr(model, "hf_device_map", None) else model.to(target)
    return Policy(ref, model.eval(), processor, target)


def _check_goes_on(ref: PolicyRef, config: Any) -> None:
    """UnavailableError for a model that reads its prompt in an encoder: a completion has no prompt in front of it."""
    if getattr(config, "is_encoder_decoder", False):
        raise UnavailableError(
            f"can't load {ref.spec}: {config.model_type} encodes its prompt and decodes its completion, and only models"
            " whose completion goes on from the prompt are known here",
            "name a decoder-only model",
        )


def _load_model(folder: Path, config: Any, dtype: torch.dtype, trust_remote_code: bool, **placed: Any) -> Any:
    """The model with every weight from the folder; ValueError where one is missing."""
    if any(name.endswith(_SCALAR) for name in config.architectures or ()):
        raise UsageError(f"{folder} is a reward model, and writes no completions", "name a policy")
    if record_of(config) is not None:
        raise UsageError(f"{folder} is a value model, and writes no completions", "name a policy")
    return _load_whole(folder, config, dtype, trust_remote_code, **placed)


def _load_whole(folder: Path, config: Any, dtype: torch.dtype, trust_remote_code: bool, **placed: Any) -> Any:
    vision = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    family: Any = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    model, missing = _from_folder(family, folder, config, dtype, trust_remote_code, **placed)
    if missing:
        # transformers would go on with random numbers instead.
        raise ValueError(_missing(missing))
    return model


def _load_valued(
    record: ValueRecord | None, folder: Path, config: Any, dtype: torch.dtype, trust_remote_code: bool
) -> Any:
    """The model with every weight from the folder, and its value head."""
    asked = record or record_of(config)
    if asked is None:
        raise UsageError(f"{folder} is no value model", "cosmo train SCORED --objective value makes one")
    with no_report():
        # The head is in the folder's file and no part of transformers' class, which would say so.
        model = _load_whole(folder, config, dtype, trust_remote_code)
    add_head(model, folder, asked)
    return model


def _from_folder(
    family: Any, folder: Path, config: Any, dtype: torch.dtype, trust_remote_code: bool, **placed: Any
) -> tuple[Any, set[str]]:
    """The model from safetensors in the folder alone, and the names of weights that are not there."""
    if not trust_remote_code:
        _check_sizes(family, folder, config)
    model, report = family.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        # Pickled weights can run code on being read.
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
        # The folder is what the policy's id was made of: nothing may be looked up elsewhere.
        local_files_only=True,
        # Missing weights are a warning otherwise.
        output_loading_info=True,
        **placed,
    )
    return model, set(report["missing_keys"])


def _check_sizes(family: Any, folder: Path, config: Any) -> None:
    """ValueError for a config that asks for far more than the folder's weights hold.

    transformers would first make up the rest, layer by layer and number by number, and then find that it doesn't fit.
    """
    stored = [shape for file in sorted(folder.glob("*.safetensors")) for shape in _shapes(file)]
    for name, value in _integers(config.to_dict()):
        # A config may have parts that the model does not use, at their defaults.
        if _LAYERS.search(name) and value > _MOST_UNUSED_LAYERS + len(stored):
            raise ValueError(f"{name} = {value} in its config, and its weights are {len(stored)} tensors")
    if not stored or getattr(config, "quantization_config", None) or type(config) not in family._model_mapping:
        return
    with torch.device("meta"), no_report():
        model = family._model_mapping[type(config)](copy.deepcopy(config))
    asked, held = sum(p.numel() for p in model.parameters()), sum(map(math.prod, stored))
    if asked > _MOST_MISSING * held:
        raise ValueError(f"its config asks for {asked:,} numbers, and its weights are {held:,}")


def _shapes(file: Path) -> list[list[int]]:
    from safetensors import safe_open

    with safe_open(file, "pt") as weights:
        return [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118 (no mapping)


def _integers(values: dict[Any, Any]) -> Iterator[tuple[str, int]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _integers(value)
        elif isinstance(value, int):
            # Tables of numbers (Aria's patches and queries) have numbers for names.
            yield str(name), value


def _missing(keys: Iterable[str]) -> str:
    missing = sorted(keys)
    return f"{len(missing)} weights are missing, {missing[0]} among them"


def _load_scalar(
    folder: Path, config: Any, dtype: torch.dtype, trust_remote_code: bool, *, new_head: bool = True
) -> Any:
    """The model with a head for one number, which alone may be missing from the folder, if it may be new."""
    if not new_head and not any(name.endswith(_SCALAR) for name in config.architectures or ()):
        raise UsageError(
            f"{folder} is no reward model: it has no head for one number",
            "name one: cosmo train SCORED --objective reward --policy tiny:llama makes one",
        )
    vision = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    if vision or type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        kind = "sees images" if vision else "has no class for it"
        raise UsageError(
            f"no reward model can be made of {folder}: {config.model_type} {kind}, and TRL trains them on text alone",
            "start from a text-only model, for example --policy tiny:llama; or --objective verifier",
        )
    # transformers would make a classifier of two classes.
    config.num_labels = 1
    with no_report():
        model, missing = _from_folder(AutoModelForSequenceClassification, folder, config, dtype, trust_remote_code)
    if lost := missing - {_HEAD} if new_head else missing:
        raise ValueError(_missing(lost))
    if missing:
        # Not random: the same policy has to give the same reward model.
        with torch.no_grad():
            model.get_parameter(_HEAD).zero_()
    return model


@contextlib.contextmanager
def no_report() -> Iterator[None]:
    """Keep transformers from reporting what is meant: a missing weight, an end of sequence that no token is."""
    log = logging.getLogger("transformers")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


LARGEST_FILE = "5GB"
"""Weights of a larger model are several files: their digests, which are a policy's id, are computed side by side."""


def save_policy(
    model: Any, processor: PromptProcessor, folder: Path, weights: dict[str, torch.Tensor] | None = None
) -> None:
    """Write a Hugging Face folder: safetensors weights and config, and the processor's files as they were loaded.

    `weights` stand in for the model's own: none of them where somebody else writes the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Saving imports DeepSpeed where it is installed, which greets on stdout: that belongs to the next program.
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    with contextlib.redirect_stdout(sys.stderr):
        model.save_pretrained(folder, state_dict=weights, safe_serialization=True, max_shard_size=LARGEST_FILE)
    for name, content in processor.files.items():
        (folder / name).write_bytes(content)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UnavailableError(f"device {name!r}: this machine has no usable GPU", "use --set device=cpu")
    return torch.device(name)


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in _DTYPES:
        raise UsageError(f"dtype {name!r} is not known", f"choices: auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _hint(line: str) -> str:
    if "trust_remote_code" in line:
        return "read the code in that folder first; then --set trust_remote_code=true"
    return "is it a whole Hugging Face folder with safetensors weights?"
