"""The processor that belongs to a model folder, with or without torchvision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.core.errors import UnavailableError, first_line
from stages.models.families import family_named, without_video


def find_processor(folder: Path, config: Any, trust_remote_code: bool) -> Any:
    """The processor of a model folder, or its tokenizer where the model takes no images."""
    from transformers import AutoProcessor, AutoTokenizer

    flags = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    if (twin := family_named(config.model_type).image_processor) is not None:
        return without_video(twin).from_pretrained(folder, backend="pil", **flags)
    if not _sees_images(folder, config):
        return AutoTokenizer.from_pretrained(folder, **flags)
    try:
        return AutoProcessor.from_pretrained(folder, **flags)
    except (ImportError, ValueError) as error:
        # transformers says the one for a video processor, the other for an image processor.
        if "torchvision" not in str(error).lower():
            raise
        return _with_pillow(folder, config, flags, first_line(error))


def _sees_images(folder: Path, config: Any) -> bool:
    """Whether the model takes images. Some classes that do are known to transformers as language models (Phi-4)."""
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return True
    files = ("preprocessor_config.json", "processor_config.json")
    return getattr(config, "vision_config", None) is not None and any((folder / name).is_file() for name in files)


def _with_pillow(folder: Path, config: Any, flags: dict[str, Any], line: str) -> Any:
    """The family's processor without its video half and with Pillow for images; UnavailableError where it has no such.

    What needs torchvision is a video processor, or an image processor that has a twin in Pillow.
    """
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    # What the folder names comes first: one kind of model may go with several processors (Pixtral's is a llava).
    name = _processor_class(folder) or PROCESSOR_MAPPING_NAMES.get(config.model_type)
    try:
        if name is not None:
            return without_video(name).from_pretrained(folder, backend="pil", **flags)
    # Whatever its own `__init__` or the twin's absence raises: what is told is what was missing in the first place.
    except (ImportError, ValueError, TypeError, AttributeError) as error:
        line = first_line(error) if isinstance(error, ImportError) else line
    raise UnavailableError(
        f"the processor of {folder} can't be loaded: {line}",
        "pip install 'cosmo-rl[vision]'; beside a CPU build of torch take torchvision from the same index as torch",
    )


def _processor_class(folder: Path) -> str | None:
    """The processor's class as the folder's own files name it."""
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            named = json.loads((folder / name).read_text(encoding="utf-8")).get("processor_class")
            if named is not None:
                return str(named)
    return None
