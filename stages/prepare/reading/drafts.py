"""From what a source says to a record and a row: the part every file-based dataset shares."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from schemas.identity import digest
from schemas.prompts import PromptRow
from schemas.values import Image
from stages.core.errors import BadSample, InputError
from stages.prepare.datasets.base import Record
from stages.prepare.reading.files import sha256

# No image file is read into memory beyond this, whatever the config allows.
MAX_FILE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class UnreadImage:
    """An image that is known by content and not read yet."""

    name: str
    """What people call it; never a machine path."""
    digest: Callable[[], str]
    """sha256 of its bytes; planning asks for it, making the row does not."""
    load: Callable[[], bytes]
    """Its bytes as they lie in the source, unchecked."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A row without its id and images, and what stands for them."""

    row: PromptRow
    """`id` is "" and `images` is empty."""
    images: list[UnreadImage]
    """In the order of the row's image parts."""
    text: str
    """The record's `text`."""


def file_image(path: Path, name: str) -> UnreadImage:
    """An image in a file of its own; BadSample when it is missing or beyond any limit."""
    if not path.is_file():
        raise BadSample("missing_image", f"no image {name}")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise BadSample("too_large", f"{name} has {size} bytes, and the limit is {MAX_FILE_BYTES}")
    try:
        found = sha256(path)
    except InputError as error:
        raise BadSample("missing_image", error.message) from None
    return UnreadImage(name, lambda: found, path.read_bytes)


def bytes_image(data: bytes, name: str) -> UnreadImage:
    """An image that came inside its row."""
    return UnreadImage(name, lambda: hashlib.sha256(data).hexdigest(), lambda: data)


def content_key(row: PromptRow, images: list[str]) -> str:
    """The row's id by its images' sha256: what `schemas.identity.prompt_id` makes of the whole row."""
    turns = [[m.role, [[p.type, p.text] for p in m.content]] for m in row.messages]
    return digest([row.label, turns, images, row.answer])[:16]


def record_of(draft: Draft, ref: str, payload: Any) -> Record:
    """What planning needs of a draft."""
    row, hashes = draft.row, [p.digest() for p in draft.images]
    return Record(
        ref=ref,
        key=content_key(row, hashes),
        label=row.label,
        task=row.task,
        split=row.split,
        text=draft.text,
        flags=tuple(row.flags),
        payload=payload,
        images=digest(hashes)[:16] if hashes else "",
        family=row.family or "",
    )


def row_of(draft: Draft) -> PromptRow:
    """The whole row, images read but not checked; BadSample when one has gone since."""
    try:
        images = [Image(p.load(), p.name) for p in draft.images]
    except OSError as error:
        raise BadSample("missing_image", f"can't read {error.filename}: {error.strerror}") from None
    hashes = [hashlib.sha256(i.bytes).hexdigest() for i in images]
    return dataclasses.replace(draft.row, id=content_key(draft.row, hashes), images=images)


def refused(ref: str, bad: BadSample) -> Record:
    """A record that says why there will be no row."""
    return Record(ref, "", "", "", "", "", rejected=(bad.reason, bad.detail))


def records_of(samples: Iterable[tuple[str, Any]], make: Callable[[Any], Draft]) -> Iterator[Record]:
    """One record for each (ref, payload), in order; a BadSample raised by `make` becomes a refused record."""
    for ref, payload in samples:
        try:
            yield record_of(make(payload), ref, payload)
        except BadSample as bad:
            yield refused(ref, bad)


def image_from(value: Any, name: str, folder: Path | None) -> UnreadImage:
    """An image from what a column holds: a path below `folder`, a data URL, bytes, or {"bytes", "path"}.

    BadSample `missing_image` for a file that is not there, `bad_image` for a broken data URL, `malformed` for
    anything else.
    """
    if isinstance(value, dict):
        named = value.get("path")
        if value.get("bytes") is not None:
            name = PurePath(named).name if isinstance(named, str) and named else name
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
    path = PurePath(value)
    # An absolute path says where somebody's disk is: only the name is kept.
    shown = path.name if path.is_absolute() else value
    return file_image(Path(folder or ".", value), shown)


def _data_url(value: str, name: str) -> bytes:
    head, comma, body = value.partition(",")
    if not comma or not head.endswith(";base64"):
        raise BadSample("bad_image", f"{name} is a data URL that is not base64: {head[:40]}")
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:
        raise BadSample("bad_image", f"{name} is a broken base64 data URL: {error}") from None
