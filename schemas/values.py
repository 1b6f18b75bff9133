"""Small value types that rows are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

# A field called `bytes` in a slotted dataclass shadows the type when hints are resolved.
Bytes = bytes
# Ids and log-probs are most of a shard's values: no vocabulary needs 64 bits, and no model computes in more than
# float32. Read from a shard they are `schemas.columns.Numbers`, which stay as they lie there; a list will do as well.
Int32 = Annotated[int, "int32"]
Float32 = Annotated[float, "float32"]


@dataclass(frozen=True, slots=True)
class Image:
    """One encoded image, stored as Hugging Face `datasets` stores its Image feature."""

    bytes: Bytes
    """The encoded file (PNG, JPEG, WebP), exactly as it was read or drawn."""
    path: str | None = None
    """A name for people: the file it came from, never a location to read again."""


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a message."""

    type: str
    """`text` or `image`; the n-th image part of a row is its n-th entry in `images`."""
    text: str | None = None
    """The words, for a text part."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn, in the shape Hugging Face chat templates take."""

    role: str
    """`system`, `user` or `assistant`."""
    content: list[Part]
    """The turn's pieces in reading order."""


def text_message(role: str, text: str, images: int = 0) -> Message:
    """A turn of `images` images followed by one text."""
    parts = [Part("image") for _ in range(images)] + [Part("text", text)]
    return Message(role, parts)


def plain_text(messages: list[Message]) -> str:
    """All words of a conversation, one part a line, without roles or images."""
    return "\n".join(p.text for m in messages for p in m.content if p.text)


def finite_number(text: str) -> float | None:
    """The number that a text is; None for other words, NaN and infinities."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
