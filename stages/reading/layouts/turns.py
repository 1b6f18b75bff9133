"""Conversations in the forms people store, as messages whose images stand in order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.core.errors import BadSample
from stages.reading.layouts.shapes import is_turns, role_of
from stages.reading.layouts.table import ROLES
from stages.reading.literals import opened

_MARK = re.compile(r"<image>|<image[ _]?(\d{1,2})>|<\|image_(\d{1,2})\|>|<img>(.*?)</img>", re.DOTALL)
_TEXT_TYPES = ("text", "input_text", "output_text")
_IMAGE_TYPES = ("image", "image_url", "input_image")
_IMAGE_KEYS = ("image", "image_url", "url", "path", "source", "file_name")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for an image: the next one of the row's (0), one by number, or one of its own."""

    number: int = 0
    value: Any = None


Part = str | Slot
Turn = tuple[str, list[Part]]


def as_turns(value: Any) -> list[Any] | None:
    """The list of turns that a value is, or was written as text; None for anything else."""
    if isinstance(value, str):
        value = opened(value)
    return value if is_turns(value) else None


def turns_of(value: Any) -> list[Turn]:
    """(role, parts) of each turn; BadSample `tool_turns` where a tool is called or answers."""
    turns = as_turns(value)
    if turns is None:
        raise BadSample("malformed", f"turns are {str(value)[:60]!r}, and must be a list with roles")
    return [_turn(turn, number) for number, turn in enumerate(turns, start=1)]


def _turn(turn: Mapping[str, Any], number: int) -> Turn:
    called = role_of(turn)
    role = ROLES.get(called.lower())
    if role == "tool" or turn.get("tool_calls") or turn.get("function_call"):
        raise BadSample(
            "tool_turns", f"turn {number} ({called}) is of a tool, and no stage reads those: leave such rows out"
        )
    if role is None:
        raise BadSample("malformed", f"turn {number} has the role {called[:40]!r}, not system, user or assistant")
    content = turn["content"] if turn.get("content") is not None else turn.get("value")
    if isinstance(content, Mapping):
        content = [content]
    if isinstance(content, str):
        return role, [content]
    if not isinstance(content, list):
        raise BadSample("malformed", f"turn {number} has no text and no parts: {str(content)[:60]!r}")
    return role, [_part(part, number) for part in content]


def _part(part: Any, number: int) -> Part:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise BadSample("malformed", f"turn {number} has a part that is {str(part)[:60]!r}")
    kind = part.get("type")
    text = part.get("text")
    if isinstance(text, str) and (kind in _TEXT_TYPES or kind is None):
        return text
    value = next((part[k] for k in _IMAGE_KEYS if part.get(k)), None)
    if kind in _IMAGE_TYPES or (kind is None and value is not None):
        return Slot(value=_source(value))
    raise BadSample("malformed", f"turn {number} has a part of type {str(kind)[:40]!r}: read are texts and images")


def _source(value: Any) -> Any:
    """An image as Anthropic's interface takes it, as a data URL; any other as it is."""
    if isinstance(value, Mapping) and isinstance(value.get("data"), str):
        return f"data:{value.get('media_type', 'image/png')};base64,{value['data']}"
    return value


def assembled(turns: list[Turn], images: list[Any]) -> tuple[list[dict[str, Any]], list[Any]]:
    """(messages, images in the order of their parts); marks in texts become parts.

    Images that no mark stands for are left to the caller when none is marked; of numbered ones, those that no mark
    names are left out. BadSample `malformed` for a mark without its image.
    """
    slots = any(isinstance(part, Slot) for _, parts in turns for part in parts)
    rest, used = list(images), set[int]()
    numbered = False
    messages, found = [], list[Any]()
    for role, parts in turns:
        content: list[dict[str, Any]] = []
        for part in parts:
            # Where images are parts already, `<image>` in a text is a text.
            for piece in [part] if isinstance(part, Slot) or slots else _marked(part, bool(images)):
                if isinstance(piece, str):
                    content.append({"type": "text", "text": piece})
                elif piece.value is not None:
                    found.append(piece.value)
                    content.append({"type": "image"})
                elif piece.number == 0:
                    found += [rest.pop(0)] if rest else []
                    content.append({"type": "image"})
                elif piece.number > len(images):
                    raise BadSample("malformed", f"<image {piece.number}> is named, and there are {len(images)} images")
                elif piece.number in used:
                    content.append({"type": "text", "text": f"image {piece.number}"})
                else:
                    numbered = True
                    used.add(piece.number)
                    found.append(images[piece.number - 1])
                    content.append({"type": "image"})
        messages.append({"role": role, "content": _merged(content)})
    return messages, found if numbered else [*found, *rest]


def _marked(text: str, numbers: bool) -> list[Part]:
    """A text cut at its marks, line breaks around one with it. Numbered ones are marks where there are images."""
    parts: list[Part] = []
    at = 0
    for mark in _MARK.finditer(text):
        number = mark[1] or mark[2]
        if number and not numbers:
            continue
        parts += [text[at : mark.start()], Slot(int(number or 0), mark[3].strip() if mark[3] else None)]
        at = mark.end()
    if not parts:
        return [text]
    parts.append(text[at:])
    return [p.strip("\n") if isinstance(p, str) else p for p in parts if isinstance(p, Slot) or p.strip()]


def _merged(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Texts that follow each other as one: a repeated mark leaves three."""
    merged: list[dict[str, Any]] = []
    for part in content:
        if merged and part["type"] == merged[-1]["type"] == "text":
            merged[-1] = {"type": "text", "text": merged[-1]["text"] + part["text"]}
        else:
            merged.append(part)
    return merged
