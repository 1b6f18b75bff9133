"""Identity is content: ids come from what a row says, not from where it lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from json.encoder import encode_basestring
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
    turns = [(m.role, [(p.type, p.text) for p in m.content]) for m in messages]
    return content_id(label, turns, [hashlib.sha256(i.bytes).hexdigest() for i in images], answer)


def content_id(
    label: str, turns: Iterable[tuple[str, Iterable[tuple[str, str | None]]]], images: Iterable[str], answer: str | None
) -> str:
    """The same by (role, its parts' types and texts) a turn, and the images' sha256: what is known before the row.

    It is the start of `digest([label, turns, images, answer])`, spelled here: an encoder takes six times as long.
    """
    said = encode_basestring
    spelled = [
        f"[{said(role)},[{','.join([f'[{said(kind)},{_maybe(text)}]' for kind, text in parts])}]]"
        for role, parts in turns
    ]
    content = f"[{said(label)},[{','.join(spelled)}],[{','.join(map(said, images))}],{_maybe(answer)}]"
    # 64 bits: among a million prompts two alike by chance are one in tens of millions.
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _maybe(text: str | None) -> str:
    """A text, or none, as JSON has it."""
    return "null" if text is None else encode_basestring(text)
