"""The plain sample: one mapping of names to JSON values, which `jsonl`, `parquet` and `hf` all read.

    prompt      text; `<image>` marks where an image goes, else images come first
    messages    instead of prompt: [{"role": "user", "content": text or [{"type": "text", "text": ...},
                {"type": "image"}]}]; a closing assistant turn is the response
    image       one image, or `images`, a list of them: a path, a base64 data URL, or bytes
    answer      text or number, or a list of them that are as right; answer_kind is number, choice, choices (several
                right options, `AC`), text or math
    accepted    further references; answer_rule is {"relative": 0.05}, {"absolute": 0.01} or {"partial": 0.5}
    choices     list of texts, the first is A
    response    a whole completion to imitate in SFT, `<think> ... </think> answer`
    label, task, split, source, category, risk, family, parent_id, scene    text
    harmful     true or false
    facts, key_facts, visual_keys, text_keys            lists of texts
    hazards, unsafe_markers, flags                      lists of texts
    instructions    list of objects with a "kind"; or list of kinds, with their objects in `instruction_arguments`
    id, extra   kept in the row's `extra`, with every further key

Only `prompt` or `messages` must be there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.prompts import PromptRow
from schemas.values import Message, Part, plain_text
from stages.core.errors import BadSample, closest, did_you_mean
from stages.reading.references import references
from stages.reading.unread_images import UnreadImage

IMAGES = ("image", "images")
"""What a sample has its images in, one or several."""
TEXTS = ("label", "task", "split", "source", "category", "risk", "family", "parent_id", "scene")
LISTS = (
    *("choices", "accepted", "facts", "key_facts", "visual_keys", "text_keys"),
    *("hazards", "unsafe_markers", "flags"),
)
KNOWN = (
    *("prompt", "messages", *IMAGES, "answer", "answer_kind", "answer_rule", "response"),
    *("harmful", "instructions", "instruction_arguments", "id", "extra", *TEXTS, *LISTS),
)
IMAGE_MARK = "<image>"
_PLAIN_LISTS = tuple(name for name in LISTS if name != "accepted")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a source says for samples that do not say it themselves."""

    source: str
    label: str = "general"
    task: str = ""
    split: str = "train"
    answer_kind: str = ""
    flags: tuple[str, ...] = ()
    strict: bool = False
    """Refuse a column whose name is nearly one of ours."""

    @classmethod
    def of(cls, options: Any, source: str, strict: bool = False) -> Defaults:
        """What the options of a dataset plugin say, which have fields of these names."""
        flags = tuple(options.flags)
        return cls(source, options.label, options.task, options.split, options.answer_kind, flags, strict)


@dataclass(frozen=True, slots=True)
class Draft:
    """A row without its id and images, and what stands for them."""

    row: PromptRow
    """`id` is "" and `images` is empty."""
    images: list[UnreadImage]
    """In the order of the row's image parts."""
    text: str
    """The record's `text`."""


def draft_of(item: Mapping[str, Any], defaults: Defaults, image: Callable[[Any, str], UnreadImage]) -> Draft:
    """The draft of a sample; BadSample `malformed` names the column and what it holds.

    `image(value, name)` turns one entry of `image` or `images` into an image.
    """
    if defaults.strict:
        _spelling(item)
    # Most samples have few of the names: what is not there is not asked for, name by name.
    item = {name: value for name, value in item.items() if value is not None}
    images = images_of(item, image)
    messages, response = _conversation(item, len(images))
    texts: dict[str, Any] = {name: _text(item, name) for name in TEXTS if name in item}
    label = texts.pop("label", None) or defaults.label
    kind = _text(item, "answer_kind") or defaults.answer_kind
    reference = references(item, label, kind)
    split = texts.pop("split", None) or defaults.split
    if split not in ("train", "test"):
        raise _wrong("split", split, "train or test")
    lists: dict[str, Any] = {name: _list(item, name) for name in _PLAIN_LISTS if name in item}
    row = PromptRow(
        id="",
        label=label,
        source=texts.pop("source", None) or defaults.source,
        task=texts.pop("task", None) or defaults.task or label,
        messages=messages,
        split=split,
        answer=reference.answer,
        answer_kind=reference.kind,
        accepted=reference.accepted,
        answer_rule=reference.rule,
        reference_response=response,
        harmful=_flag(item, "harmful"),
        instructions=_instructions(item),
        extra=_extra(item),
        flags=sorted({*lists.pop("flags", ()), *defaults.flags}),
        **lists,
        # What is left: category, risk, family, parent_id, scene.
        **texts,
    )
    return Draft(row, images, plain_text(messages))


def images_of(item: Mapping[str, Any], image: Callable[[Any, str], UnreadImage]) -> list[UnreadImage]:
    """The images of a sample's draft, without the rest of it."""
    return [image(v, f"image {n}") for n, v in enumerate(_images(item), start=1)]


def _wrong(name: str, value: Any, expected: str) -> BadSample:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    kind = type(value).__name__
    return BadSample("malformed", f"column {name!r} is {shown} ({kind}), and must be {expected}")


def _spelling(item: Mapping[str, Any]) -> None:
    """A key that is nearly one of ours, while ours is absent, would be lost silently."""
    for name in item:
        if name not in KNOWN:
            # difflib's own 0.6 would take `text` for `extra` and `image_id` for `image`, and refuse columns of one's
            # own.
            close = closest(name, KNOWN, cutoff=0.8)
            if close and close[0] not in item:
                raise BadSample("malformed", f"unknown column {name!r}: {did_you_mean(name, close)}")


def _text(item: Mapping[str, Any], name: str) -> str | None:
    value = item.get(name)
    if value is None or isinstance(value, str):
        return value
    raise _wrong(name, value, "text")


def _list(item: Mapping[str, Any], name: str) -> list[str]:
    value = item.get(name)
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return list(value)
    raise _wrong(name, value, "a list of texts")


def _flag(item: Mapping[str, Any], name: str) -> bool | None:
    value = item.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise _wrong(name, value, "true or false")


def _instructions(item: Mapping[str, Any]) -> list[str]:
    value = listed_in(item.get("instructions"))
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong("instructions", value, 'a list of objects with a "kind"')
    if item.get("instruction_arguments") is not None:
        value = _with_arguments(value, listed_in(item["instruction_arguments"]))
    found = []
    for entry in value:
        try:
            # Parquet has no column of mixed objects, so that tables hold instructions as JSON text.
            entry = json.loads(entry) if isinstance(entry, str) else entry
        except ValueError:
            raise _wrong("instructions", entry, "JSON") from None
        if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
            raise _wrong("instructions", entry, 'an object with a "kind"')
        found.append(json.dumps(entry, sort_keys=True, ensure_ascii=False))
    return found


def listed_in(value: Any) -> Any:
    """A list that a table holds as JSON text, with the objects in it that are text again; anything else as it is."""
    try:
        found = json.loads(value) if isinstance(value, str) and value.lstrip()[:1] == "[" else value
        if isinstance(found, list):
            found = [json.loads(v) if isinstance(v, str) and v.lstrip()[:1] == "{" else v for v in found]
    except ValueError:
        return value
    return found


def _with_arguments(kinds: list[Any], arguments: Any) -> list[dict[str, Any]]:
    """Kinds and their arguments in two lists, as IFEval's files have them, as objects; nulls are left out."""
    if not isinstance(arguments, list) or not all(given is None or isinstance(given, dict) for given in arguments):
        raise _wrong("instruction_arguments", arguments, "a list of objects")
    if len(kinds) != len(arguments):
        raise _wrong("instruction_arguments", arguments, f"as many objects as there are kinds, {len(kinds)}")
    return [
        {**{name: v for name, v in (given or {}).items() if v is not None}, "kind": kind}
        for kind, given in zip(kinds, arguments, strict=True)
    ]


def _extra(item: Mapping[str, Any]) -> str | None:
    """What has no field of its own, as JSON."""
    extra = {name: v for name, v in item.items() if (name == "id" or name not in KNOWN) and v is not None}
    given = item.get("extra")
    if isinstance(given, dict):
        extra = {**given, **extra}
    elif given is not None:
        extra["extra"] = given
    try:
        # `default=str` for what Parquet and `datasets` hold beyond JSON: dates, decimals, bytes. TypeError: keys that
        # are no text or can't be sorted.
        return json.dumps(extra, sort_keys=True, ensure_ascii=False, default=str) if extra else None
    except TypeError as error:
        raise BadSample("malformed", f"further columns can't be kept as JSON: {error}") from None


def _images(item: Mapping[str, Any]) -> list[Any]:
    one, several = item.get("image"), item.get("images")
    if one is not None and several is not None:
        raise BadSample("malformed", "columns 'image' and 'images' are both there: give one of them")
    if several is not None and not isinstance(several, list):
        raise _wrong("images", several, "a list")
    # Some writers put a list into the singular column.
    return several or (one if isinstance(one, list) else [] if one is None else [one])


def _conversation(item: Mapping[str, Any], images: int) -> tuple[list[Message], str | None]:
    """The turns up to the completion, and the completion where the sample has one."""
    prompt, turns, response = _text(item, "prompt"), item.get("messages"), _text(item, "response")
    if (prompt is None) == (turns is None):
        which = "neither 'prompt' nor 'messages'" if prompt is None else "both 'prompt' and 'messages'"
        raise BadSample("malformed", f"there is {which}; one of them must be there")
    if prompt is not None:
        messages = [_message_of_text("user", prompt)]
    else:
        if not isinstance(turns, list) or not turns:
            raise _wrong("messages", turns, "a list of turns")
        messages = [_turn(t) for t in turns]
        if messages[-1].role == "assistant":
            if response is not None:
                raise BadSample("malformed", "there is a closing assistant turn and a 'response'; give one")
            response = plain_text(messages[-1:])
            messages = messages[:-1]
    if not messages or messages[-1].role != "user":
        raise BadSample("malformed", "the last turn before the completion must be the user's")
    messages = _with_image_parts(messages, images)
    if not any(p.type == "image" or (p.text and p.text.strip()) for p in messages[-1].content):
        raise BadSample("malformed", "the prompt is empty")
    return messages, response


def _turn(turn: Any) -> Message:
    if not isinstance(turn, dict) or turn.get("role") not in ("system", "user", "assistant"):
        raise _wrong("messages", turn, "turns with role system, user or assistant and a content")
    content = turn.get("content")
    if isinstance(content, str):
        return _message_of_text(turn["role"], content)
    if not isinstance(content, list) or not all(isinstance(p, dict) for p in content):
        raise _wrong("messages.content", content, "text or a list of parts")
    parts = []
    for part in content:
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            parts.append(Part("text", part["text"]))
        elif part.get("type") == "image":
            parts.append(Part("image"))
        else:
            expected = 'a part {"type": "text", "text": ...} or {"type": "image"}'
            raise _wrong("messages.content", part, expected)
    return Message(turn["role"], parts)


def _message_of_text(role: str, text: str) -> Message:
    """A turn whose `<image>` marks become image parts."""
    parts = []
    for n, piece in enumerate(text.split(IMAGE_MARK)):
        if n:
            parts.append(Part("image"))
        if piece.strip():
            # Line breaks around a mark belong to the mark (`<image>\nWhat is it?`); text without marks stays as it was
            # written.
            parts.append(Part("text", piece.strip("\n") if IMAGE_MARK in text else piece))
    return Message(role, parts)


def _with_image_parts(messages: list[Message], images: int) -> list[Message]:
    """Image parts and images agree in number; without any part the images open the last turn."""
    parts = sum(p.type == "image" for m in messages for p in m.content)
    if parts == images:
        return messages
    if parts:
        # Fewer or more marks than images: which image was meant where can't be guessed.
        raise BadSample("malformed", f"{parts} image marks for {images} images")
    last = messages[-1]
    return [*messages[:-1], Message(last.role, [*[Part("image")] * images, *last.content])]
