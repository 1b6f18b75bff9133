"""Identity is content: ids come from what a row says, not from where it lies."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from schemas.values import Image, Message

# Made once: making an encoder takes longer than most values do.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: Any) -> bytes:
    """The one JSON spelling of a value: sorted keys, no spaces, no NaN."""
    # UnicodeEncodeError for half a surrogate pair, and ValueError for NaN: what reads JSON keeps both out of rows.
    return _ENCODER.encode(value).encode()


def digest(value: Any) -> str:
    """sha256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def prompt_id(*, label: str, messages: list[Message], images: list[Image], answer: str | None) -> str:
    """16 hex digits over what a model and its judge are given: label, words, images, answer."""
    turns = [[m.role, [[p.type, p.text] for p in m.content]] for m in messages]
    image_digests = [hashlib.sha256(i.bytes).hexdigest() for i in images]
    # 64 bits: among a million prompts two alike by chance are one in tens of millions.
    return digest([label, turns, image_digests, answer])[:16]
