"""Images as a source holds them, known by content and read only when their row is made."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from stages.core.errors import BadSample, InputError
from stages.reading.files import is_file, sha256

MAX_FILE_BYTES = 256 << 20
"""No image file is read into memory beyond this, whatever the config allows."""
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{60,}={0,2}\s*")
"""What only an encoded file looks like: long, and without the dot of a suffix."""
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class UnreadImage:
    """An image that is known by content and not read yet."""

    name: str
    """What people call it; never a machine path."""
    digest: Callable[[], str]
    """sha256 of its bytes; planning asks for it, making the row does not."""
    load: Callable[[], bytes]
    """Its bytes as they lie in the source, unchecked."""
    is_apart: bool = False
    """Whether it lies outside of its record, whose digest does not cover it then."""


def file_image(path: Path, name: str) -> UnreadImage:
    """An image in a file of its own; BadSample when it is missing, can't be read, or is beyond any limit."""
    try:
        # Raises where the name is longer than a disk allows (base64 without its `data:`), or its folder is closed.
        there = path.is_file()
        size = path.stat().st_size if there else 0
    except OSError as error:
        raise BadSample("missing_image", f"can't read {_shortened(name)}: {error.strerror}") from None
    if not there:
        raise BadSample("missing_image", f"no image {_shortened(name)}")
    if size > MAX_FILE_BYTES:
        raise BadSample("too_large", f"{name} has {size} bytes, and the limit is {MAX_FILE_BYTES}")
    try:
        found = sha256(path)
    except InputError as error:
        raise BadSample("missing_image", f"{_shortened(name)}: {error.message}") from None
    return UnreadImage(name, lambda: found, path.read_bytes, is_apart=True)


def bytes_image(data: bytes, name: str) -> UnreadImage:
    """An image that came inside its row."""
    return UnreadImage(name, lambda: hashlib.sha256(data).hexdigest(), lambda: data)


def image_from(value: Any, name: str, folder: Path | None) -> UnreadImage:
    """An image from what a column holds: a path below `folder`, a data URL, bytes, or {"bytes", "path"}.

    BadSample `missing_image` for a file that is not there, `bad_image` for a broken data URL, `malformed` for
    anything else.
    """
    if isinstance(value, dict):
        named = value.get("path")
        # The struct that Hugging Face `datasets` stores: bytes, or a path, or both, and then the bytes are what counts.
        if value.get("bytes") is not None:
            name = _file_name(named) if isinstance(named, str) and named else name
            return image_from(value["bytes"], name, folder)
        value = named
    if isinstance(value, bytes):
        return bytes_image(value, name)
    if not isinstance(value, str) or not value:
        kind = type(value).__name__
        raise BadSample("malformed", f"{name} is a {kind}, and must be a path, a data URL or bytes")
    if value.startswith("data:"):
        return bytes_image(_data_url(value, name), name)
    if value.startswith(("http://", "https://")):
        raise BadSample("missing_image", f"{name} is a web address, and nothing is downloaded: {value[:80]}")
    if _BASE64.fullmatch(value) and not is_file(Path(folder or ".", value)):
        detail = f"{name} is no file; base64 needs data:image/png;base64, before it: {value[:40]}..."
        raise BadSample("missing_image", detail)
    path = PurePath(value)
    # An absolute path says where somebody's disk is: only the name is kept.
    shown = path.name if path.is_absolute() else value
    # An absolute `value` wins over the folder, as pathlib joins: such paths are common in people's own lists.
    return file_image(Path(folder or ".", value), shown)


def _file_name(path: str) -> str:
    """The last part of a path; most are no more than that, and taking one apart takes longer than to hash an image."""
    return path if path[0] != "." and "/" not in path and os.sep not in path else PurePath(path).name


def _shortened(name: str) -> str:
    """The name as a message can bear it: an image in base64 has thousands of letters."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}... ({len(name)} characters)"


def _data_url(value: str, name: str) -> bytes:
    head, comma, body = value.partition(",")
    if not comma or not head.endswith(";base64"):
        raise BadSample("bad_image", f"{name} is a data URL that is not base64: {head[:40]}")
    try:
        # Without `validate` Python drops whatever is not of the alphabet, and decodes a damaged image to other bytes.
        return base64.b64decode(body, validate=True)
    except ValueError as error:
        raise BadSample("bad_image", f"{name} is a broken base64 data URL: {error}") from None
