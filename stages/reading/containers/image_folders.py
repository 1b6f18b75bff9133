"""Folders of images: a table that names them, or a text beside each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.identity import digest
from stages.core.errors import BadSample
from stages.reading.containers.base import Container, Item
from stages.reading.files import json_line, sha256

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
CAPTIONS = (".txt", ".caption", ".json")
MAX_CAPTION_BYTES = 1 << 20


class NamedImages(Container):
    """Rows of a table beside the images: `metadata.jsonl`, or the same as CSV or Parquet, with a `file_name`."""

    kind = "image folder"

    def __init__(self, table: Container, folder: Path) -> None:
        super().__init__(table.files, folder, folder.resolve().name)
        self._table = table

    def items(self) -> Iterator[Item]:
        """The table's rows; its `file_name` is an image's path."""
        for item in self._table.items():
            record = item.record if isinstance(item.record, BadSample) else _with_images(item.record)
            yield Item(item.ref, item.position, record)

    def read(self, position: Any) -> dict[str, Any]:
        """The row of the table at this position."""
        return _with_images(self._table.read(position))

    def count(self) -> int | None:
        """How many rows the table has."""
        return self._table.count()


class CaptionedImages(Container):
    """Images, each with a text or a JSON object of the same name beside it."""

    kind = "image folder with captions"

    def __init__(self, folder: Path, images: list[Path]) -> None:
        super().__init__([*images, *_beside(images)], folder, folder.resolve().name)
        self._images = images

    def items(self) -> Iterator[Item]:
        """A record for each image, sorted by name."""
        for n, image in enumerate(self._images):
            try:
                yield Item(image.name, n, self.read(n))
            except BadSample as bad:
                yield Item(image.name, n, bad)

    def read(self, position: Any) -> dict[str, Any]:
        """The record of one image."""
        image = self._images[position]
        where = image.relative_to(self.folder or image.parent)
        record: dict[str, Any] = {"image": where.as_posix()}
        if len(where.parts) > 1:
            # Folders by class: what their names say is a column, for who wants it.
            record["folder"] = where.parent.name
        for file in _beside([image]):
            if file.stat().st_size > MAX_CAPTION_BYTES:
                raise BadSample("too_large", f"{file.name} is no caption: it has {file.stat().st_size} bytes")
            if file.suffix == ".json":
                record.update(json_line(file.read_bytes()))
                continue
            try:
                record["caption"] = file.read_text(encoding="utf-8-sig").strip()
            except UnicodeError as error:
                raise BadSample("malformed", f"{file.name} is not UTF-8: {error}") from None
        return record

    def identity(self) -> dict[str, str]:
        """The names and contents of all files: names of folders are columns."""
        names = [[file.relative_to(self.folder or file.parent).as_posix(), sha256(file)] for file in self.files]
        return {"files": digest(names)}

    def count(self) -> int | None:
        """How many images there are."""
        return len(self._images)


def _beside(images: list[Path]) -> list[Path]:
    return [file for image in images for suffix in CAPTIONS if (file := image.with_suffix(suffix)).is_file()]


def _with_images(record: dict[str, Any]) -> dict[str, Any]:
    """`file_name` and `file_names`, and names that end so, as `datasets` reads an image folder's table."""
    found = {}
    for name, value in record.items():
        if name in ("file_name", "file_names"):
            found["image" if name == "file_name" else "images"] = value
        elif name.endswith(("_file_name", "_file_names")):
            found[name.rpartition("_file_name")[0]] = value
        else:
            found[name] = value
    return found
