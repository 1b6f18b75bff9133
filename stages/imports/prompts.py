"""Prompt rows from a sample's own columns, for files that come without a prepared run."""

from __future__ import annotations

import ast
import base64
import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from schemas.values import Message, Part
from stages.core.errors import BadSample
from stages.imports.config import ImportConfig
from stages.imports.samples import LISTS
from stages.models.image_checks import Limits, check_image

IMAGE_MARK = "<image>"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ROLES = {"human": "user", "gpt": "assistant"}
_LONGEST_NAME = 120
_TEXTS = ("category", "risk", "family", "parent_id", "scene")


@dataclass(frozen=True, slots=True)
class Draft:
    """A prompt row without id and images."""

    row: PromptRow
    images: list[Any]
    """What stands for its images: paths, data URLs, base64, bytes, or `{"bytes", "path"}`."""


def draft_of(prompt: Mapping[str, Any], config: ImportConfig, source: str) -> Draft:
    """The draft of a sample's columns; BadSample `malformed` names the column and what it holds."""
    listed = _several(prompt.get("images"))
    messages, inline = _conversation(prompt, len(listed))
    images = [*listed, *inline]
    parts = sum(part.type == "image" for message in messages for part in message.content)
    if parts != len(images):
        raise BadSample("malformed", f"{parts} image marks for {len(images)} images")
    choices = _choices(prompt.get("choices"))
    label = _text(prompt, "label") or config.label
    answer, kind = _answer(prompt, choices, label, config.answer_kind)
    split = _text(prompt, "split") or "train"
    values: dict[str, Any] = {name: _text(prompt, name) for name in _TEXTS}
    values |= {name: _list(prompt, name) for name in LISTS if name not in ("flags", "instructions")}
    row = PromptRow(
        id="",
        label=label,
        source=_text(prompt, "source") or source,
        messages=messages,
        # Published files have splits of many names: whatever is not trained on is tested on.
        split="train" if split.startswith("train") else "test",
        answer=answer,
        answer_kind=kind,
        choices=choices,
        harmful=_flag(prompt, "harmful"),
        flags=sorted({*_list(prompt, "flags"), *config.flags}),
        instructions=[_json_text(entry) for entry in _several(prompt.get("instructions"))],
        extra=_extra(prompt.get("extra")),
        task=_text(prompt, "task") or config.task or label,
        **values,
    )
    return Draft(row, images)


def whole_row(draft: Draft, folder: Path, limits: Limits) -> PromptRow:
    """The row with its images read and checked, and its id; BadSample where one can't be used."""
    images = []
    for n, value in enumerate(draft.images, start=1):
        data, name = image_bytes(value, f"image {n}", folder, limits.max_bytes)
        images.append(check_image(data, name, limits))
    row = draft.row
    ident = prompt_id(label=row.label, messages=row.messages, images=images, answer=row.answer)
    return dataclasses.replace(row, id=ident, images=images)


def image_file(value: Any, folder: Path) -> Path | None:
    """The file that an image's column names, inside the folder; None where the image is in the row itself.

    BadSample for a web address, and for a file that is not there or lies elsewhere.
    """
    if isinstance(value, Mapping):
        if value.get("bytes") is not None:
            return None
        value = value.get("path")
    if isinstance(value, bytes):
        return None
    if not isinstance(value, str) or not value:
        raise BadSample("malformed", f"an image is a {type(value).__name__}, and must be a path, a data URL or bytes")
    if value.startswith("data:") or _is_base64(value):
        return None
    # An absolute path says where somebody's disk is: only the name is shown.
    name = PurePath(value).name if PurePath(value).is_absolute() else value
    shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
    if value.startswith(("http://", "https://")):
        raise BadSample("missing_image", f"{shown} is a web address, and nothing is downloaded")
    try:
        path = (folder / value).resolve()
        # Files come from strangers: `../../secret.png` and a link to it would be copied into a run that is shared.
        if not path.is_relative_to(folder.resolve()):
            raise BadSample("missing_image", f"{shown} is not inside the file's folder: copy images beside the file")
        if not path.is_file():
            raise BadSample("missing_image", f"no image {shown}")
    # A name longer than a disk allows, a null byte in it, a folder that is closed.
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadSample("missing_image", f"can't read {shown}: {why}") from None
    return path


def image_bytes(value: Any, name: str, folder: Path, most: int) -> tuple[bytes, str]:
    """(encoded file, name for people) of what an image's column holds."""
    if (path := image_file(value, folder)) is not None:
        if (size := path.stat().st_size) > most:
            raise BadSample("too_large", f"{path.name} has {size} bytes, and the limit is {most}")
        return path.read_bytes(), path.name
    if isinstance(value, Mapping):
        named = value.get("path")
        return bytes(value["bytes"]), PurePath(named).name if isinstance(named, str) and named else name
    if isinstance(value, bytes):
        return value, name
    head, _, body = value.rpartition(",")
    if head and not head.endswith(";base64"):
        raise BadSample("bad_image", f"{name} is a data URL that is not base64: {head[:40]}")
    try:
        return base64.b64decode(body, validate=True), name
    except ValueError as error:
        raise BadSample("bad_image", f"{name} is broken base64: {error}") from None


def _is_base64(value: str) -> bool:
    """Whether a text is an encoded image: it begins as JPEG, PNG, GIF or WebP do, and is longer than a name."""
    return len(value) > 60 and value.startswith(("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR"))


def opened(value: Any) -> Any:
    """What a text of JSON, or of a Python list as tables have it, holds; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        for read in (json.loads, ast.literal_eval):
            try:
                return read(value)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    return value


def _several(value: Any) -> list[Any]:
    value = opened(value)
    return value if isinstance(value, list) else [] if value is None else [value]


def _conversation(prompt: Mapping[str, Any], images: int) -> tuple[list[Message], list[Any]]:
    """The turns up to the completion, and the images that stand inside of them."""
    given = opened(prompt["prompt"]) if "prompt" in prompt else None
    turns = given if _are_turns(given) else opened(prompt.get("messages"))
    inline: list[Any] = []
    if given is not None and not _are_turns(given):
        if not isinstance(prompt["prompt"], str):
            raise _wrong("prompt", prompt["prompt"], "text or turns")
        messages = [Message("user", _marked(prompt["prompt"]))]
    elif _are_turns(turns):
        messages = [_turn(turn, inline) for turn in turns or []]
    else:
        raise BadSample("malformed", "there is no prompt: --map prompt=COLUMN, or --prompts RUN")
    if messages[-1].role != "user":
        raise BadSample("malformed", "the last turn before the completion must be the user's")
    marks = sum(part.type == "image" for message in messages for part in message.content)
    # Without any mark the images come first, as everybody's loaders have it.
    if images and marks == len(inline):
        first = [*[Part("image")] * images, *messages[-1].content]
        messages = [*messages[:-1], Message("user", first)]
        if inline:
            raise BadSample(
                "malformed", "there are images in the turns and in a column: which comes first is not clear"
            )
    if not any(part.type == "image" or (part.text or "").strip() for part in messages[-1].content):
        raise BadSample("malformed", "the prompt is empty")
    return messages, inline


def _are_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _turn(turn: Mapping[str, Any], inline: list[Any]) -> Message:
    role = turn.get("role") or turn.get("from")
    role = _ROLES.get(str(role), role)
    if role not in ("system", "user", "assistant"):
        raise BadSample("malformed", f"a turn of {role!r} is not read: system, user and assistant are")
    content = turn.get("content", turn.get("value"))
    if isinstance(content, str):
        return Message(role, _marked(content))
    if not _are_turns(content):
        raise _wrong("content of a turn", content, "text or a list of parts")
    return Message(role, [piece for part in content for piece in _part(part, inline)])


def _part(part: Mapping[str, Any], inline: list[Any]) -> list[Part]:
    kind = part.get("type")
    if kind == "text" and isinstance(part.get("text"), str):
        return [Part("text", part["text"])]
    if kind in ("image", "image_url"):
        held = part.get("image", part.get("image_url"))
        held = held.get("url") if isinstance(held, Mapping) and "url" in held else held
        if held is not None:
            inline.append(held)
        return [Part("image")]
    raise _wrong("part of a turn", part, "a text or an image")


def _marked(text: str) -> list[Part]:
    """A text whose `<image>` marks become image parts; line breaks around a mark belong to the mark."""
    pieces = text.split(IMAGE_MARK)
    parts = []
    for n, piece in enumerate(pieces):
        if n:
            parts.append(Part("image"))
        if piece.strip():
            parts.append(Part("text", piece.strip("\n") if len(pieces) > 1 else piece))
    return parts


def _choices(value: Any) -> list[str]:
    """The options in order: a list, or an object by letter."""
    value = opened(value)
    if isinstance(value, Mapping):
        value = [value[key] for key in sorted(value) if value[key] is not None]
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(v, str | int | float) for v in value):
        raise _wrong("choices", value, "a list of options")
    return [str(v) for v in value]


def _answer(prompt: Mapping[str, Any], choices: list[str], label: str, kind: str) -> tuple[str | None, str | None]:
    value = opened(prompt.get("answer"))
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return None, None
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise _wrong("answer", value, "text or a number: --map answer=COLUMN[0] takes the first of several")
    kind = _text(prompt, "answer_kind") or kind
    text = str(value).strip()
    if choices and text.isdigit() and text not in choices:
        # Lists count options from 0 where people write letters. One that is not there nothing could ever equal.
        if int(text) >= len(choices):
            raise _wrong("answer", value, f"a letter or a number of the {len(choices)} choices, the first is 0")
        text = LETTERS[int(text)]
    if not text or (isinstance(value, float) and not math.isfinite(value)):
        return None, None
    return text, kind or ("choice" if choices else "math" if label == "math" else "number" if _number(text) else "text")


def _number(text: str) -> bool:
    try:
        return math.isfinite(float(text.replace(",", "")))
    except ValueError:
        return False


def _text(prompt: Mapping[str, Any], name: str) -> str | None:
    value = prompt.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise _wrong(name, value, "text")


def _list(prompt: Mapping[str, Any], name: str) -> list[str]:
    found = _several(prompt.get(name))
    if not all(isinstance(v, str) for v in found):
        raise _wrong(name, found, "a list of texts")
    return found


def _flag(prompt: Mapping[str, Any], name: str) -> bool | None:
    value = prompt.get(name)
    known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    if value is None:
        return None
    if (found := known.get(str(value).lower())) is None:
        raise _wrong(name, value, "true or false")
    return found


def _json_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _extra(value: Any) -> str | None:
    try:
        # `default=str`: Parquet holds dates, decimals and bytes. TypeError: keys that can't be sorted.
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str) if value else None
    except TypeError as error:
        raise BadSample("malformed", f"further columns can't be kept as JSON: {error}") from None


def _wrong(name: str, value: Any, expected: str) -> BadSample:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return BadSample("malformed", f"{name} is {shown} ({type(value).__name__}), and must be {expected}")
