"""The processor that belongs to a model folder, with or without torchvision."""

from __future__ import annotations

import importlib
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
    except ImportError as error:
        return _with_pillow(folder, config, flags, first_line(error))
    except (ValueError, OSError) as error:
        # An image processor without its library is a ValueError; a folder without a file for videos an OSError.
        if not any(missing in str(error) for missing in ("torchvision", "video processor")):
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
    for load in (_by_transformers, _by_parts):
        try:
            if name is not None:
                return load(without_video(name), folder, config, flags)
        # Whatever its own `__init__` or the twin's absence raises.
        except (ModuleNotFoundError, ValueError, TypeError, AttributeError):
            continue
        except ImportError as error:
            # Something else that it wants is better told than what was missing first.
            line = line if "torchvision" in str(error).lower() else first_line(error)
    raise UnavailableError(
        f"the processor of {folder} can't be loaded without torchvision: {line}",
        "pip install 'cosmo-rl[vision]'; beside a CPU build of torch take torchvision from the same index as torch",
    )


def _by_transformers(kind: Any, folder: Path, config: Any, flags: dict[str, Any]) -> Any:
    return kind.from_pretrained(folder, backend="pil", **flags)


def _by_parts(kind: Any, folder: Path, config: Any, flags: dict[str, Any]) -> Any:
    """From the twin's own module: of some twins transformers' index says wrongly that they need torchvision."""
    from transformers import AutoTokenizer

    settings, _ = kind.get_processor_dict(folder, **flags)
    named = settings.get("image_processor") or _json(folder / "preprocessor_config.json")
    module = importlib.import_module(
        f"transformers.models.{config.model_type}.image_processing_pil_{config.model_type}"
    )
    twin = getattr(module, named["image_processor_type"].removesuffix("Fast") + "Pil")
    parts = [twin.from_pretrained(folder, **flags), AutoTokenizer.from_pretrained(folder, **flags)]
    return kind.from_args_and_dict(parts, settings)


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _processor_class(folder: Path) -> str | None:
    """The processor's class as the folder's own files name it."""
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        if (named := _json(folder / name).get("processor_class")) is not None:
            return str(named)
    return None
