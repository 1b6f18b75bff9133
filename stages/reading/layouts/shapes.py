"""What kind of thing a value is, by which layouts and columns are told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from stages.core.field_paths import MISSING, FieldPath
from stages.reading.containers.image_folders import IMAGES

_BOX_MARKS = ("<ref-object>", "<bbox>")
_IMAGE_PARTS = ("image_url", "input_image")


def is_turns(value: Any) -> bool:
    """Whether it is a list of turns, with `role` and `content` or `from` and `value`."""
    return isinstance(value, list) and bool(value) and all(isinstance(t, Mapping) and role_of(t) for t in value)


def role_of(turn: Mapping[str, Any]) -> str:
    """The role a turn gives itself, "" without any."""
    role = turn.get("role", turn.get("from"))
    return role if isinstance(role, str) else ""


def has_image_parts(value: Any) -> bool:
    """Whether turns hold images as OpenAI's interface takes them."""
    return is_turns(value) and any(
        isinstance(part, Mapping) and part.get("type") in _IMAGE_PARTS
        for turn in value
        if isinstance(turn.get("content"), list)
        for part in turn["content"]
    )


def is_image(value: Any) -> bool:
    """Whether it holds an image's bytes, alone or as `datasets` stores them."""
    if isinstance(value, list):
        return bool(value) and is_image(value[0])
    return isinstance(value, bytes) or (isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes))


def is_image_path(value: Any) -> bool:
    """Whether it is the name of an image file, or a list of such names."""
    if isinstance(value, list):
        return bool(value) and all(map(is_image_path, value))
    return isinstance(value, str) and "\n" not in value and PurePath(value).suffix.lower() in IMAGES


def has_box_marks(value: Any) -> bool:
    """Whether turns have marks in place of names and coordinates that stand beside them."""
    return is_turns(value) and any(
        mark in text for turn in value if isinstance(text := turn.get("content"), str) for mark in _BOX_MARKS
    )


SHAPES: dict[str, Callable[[Any], bool]] = {
    "turns": is_turns,
    "image parts": has_image_parts,
    "box marks": has_box_marks,
    "yes or no": lambda value: isinstance(value, bool),
}
"""What `Layout.needs` may ask of a value after a colon."""


def value_at(path: FieldPath, record: Mapping[str, Any]) -> Any:
    """What a record has at a path, None where it has nothing."""
    value = path.find(record)
    return None if value is MISSING else value


def there(value: Any) -> bool:
    """Whether a value says anything."""
    return value is not None and value != "" and value != [] and value != {}
