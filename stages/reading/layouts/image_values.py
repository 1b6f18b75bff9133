"""Images as columns hold them: one or several, by path, address or content, and where a path may lead."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote, urlsplit

from stages.core.errors import BadSample
from stages.reading.unread_images import MAX_FILE_BYTES, UnreadImage, bytes_image, image_from

_NAMED_BY = ("url", "image_url", "image", "path", "file_name")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{60,}={0,2}")
_BLANKS = re.compile(r"\s+")
_WEB = ("http://", "https://")
LONGEST_PATH = 4096
"""Characters beyond which a text is no path."""


def images_in(value: Any) -> list[Any]:
    """The images of a column as a list: nothing, one, a list, or a list written as text."""
    if value is None or value == "":
        return []
    if isinstance(value, str) and value[:1] == "[" and value.rstrip()[-1:] == "]":
        try:
            value = json.loads(value.replace("'", '"'))
        except ValueError:
            return [value]
    if isinstance(value, list):
        return [v for v in value if v is not None and v != ""]
    return [value]


@dataclass(frozen=True, slots=True)
class ImageRules:
    """Where images may come from."""

    folder: Path | None
    """What paths are relative to; None where there are no files."""
    allow_outside: bool = False
    """Paths may lead out of the folder."""
    fetch: bool = False
    """Web addresses are downloaded."""
    root: Path | None = None
    """What paths may not lead out of; the folder if None."""

    def image(self, value: Any, name: str) -> UnreadImage:
        """An image from what a column or a part of a turn holds; BadSample says why there is none."""
        if isinstance(value, Mapping):
            if isinstance(value.get("bytes"), bytes | str):
                called = value.get("path")
                called = PurePath(called).name if isinstance(called, str) and called else name
                return self.image(value["bytes"], called)
            value = next((value[k] for k in _NAMED_BY if value.get(k)), value)
            if isinstance(value, Mapping) and any(value.get(k) for k in _NAMED_BY):
                return self.image(value, name)
        if not isinstance(value, str) or not value:
            return image_from(value, name, self.folder)
        if len(value) > MAX_FILE_BYTES * 4 // 3 + 100:
            raise BadSample("too_large", f"{name} has {len(value)} characters of base64")
        if value.startswith(_WEB):
            return self._from_web(value, name)
        value = self.path_of(value)
        if value.startswith("data:"):
            return image_from(value, name, self.folder)
        plain = _BLANKS.sub("", value) if "\n" in value else value
        if _BASE64.fullmatch(plain) and not self._is_file(value):
            return _decoded(plain, name)
        return self._file(value, name)

    def path_of(self, value: str) -> str:
        """The path that a text names: a `file:` address without what is the address's, and slashes of either kind."""
        if value[:5].lower() == "file:":
            found = urlsplit(value)
            # `file://pics/0.png` is wrong, and what people write: its first folder stands where a host would.
            value = unquote(found.path if found.netloc in ("", "localhost") else found.netloc + found.path)
        if "\\" in value and len(value) <= LONGEST_PATH and not self._is_file(value):
            value = value.replace("\\", "/")
        return value

    def _is_file(self, value: str) -> bool:
        try:
            return self.folder is not None and (self.folder / value).is_file()
        # Longer than a name may be: base64, then. ValueError: a NUL.
        except (OSError, ValueError):
            return False

    def _file(self, value: str, name: str) -> UnreadImage:
        if self.folder is None:
            raise BadSample("missing_image", f"{name} is a path, and there is no folder: {value[:80]}")
        if not self.allow_outside:
            root = os.path.realpath(self.root or self.folder)
            # Links count as what they lead to: a stranger's folder may hold one to anywhere.
            try:
                inside = Path(os.path.realpath(self.folder / value)).is_relative_to(root)
            except (OSError, ValueError) as error:
                raise BadSample("missing_image", f"{name} can't be a path: {error}") from None
            if not inside:
                raise BadSample(
                    "outside",
                    f"{PurePath(value).name} lies outside of the folder: --image-folder DIR or --allow-outside",
                )
        try:
            return image_from(value, name, self.folder)
        # What a path can't hold, a NUL for one.
        except ValueError as error:
            raise BadSample("missing_image", f"{name} can't be a path: {error}") from None

    def _from_web(self, value: str, name: str) -> UnreadImage:
        if not self.fetch:
            raise BadSample("missing_image", f"{name} is a web address; --fetch-images downloads it: {value[:80]}")
        from stages.reading.layouts.web_images import downloaded

        image = bytes_image(downloaded(value), PurePath(value.partition("?")[0]).name or name)
        return replace(image, is_apart=True)


def _decoded(text: str, name: str) -> UnreadImage:
    try:
        return bytes_image(base64.b64decode(text, validate=True), name)
    except ValueError as error:
        raise BadSample("bad_image", f"{name} is broken base64: {error}") from None
