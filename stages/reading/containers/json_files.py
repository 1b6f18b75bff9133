"""JSON: objects line by line, arrays of objects, and objects that hold either."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from stages.core.errors import BadSample, InputError
from stages.reading.containers.base import (
    MAX_RECORD_BYTES,
    Container,
    Item,
    byte_lines,
    is_compressed,
    opened,
    plain_stem,
    small,
)
from stages.reading.files import json_line

_CHUNK = 1 << 20
_LISTS = ("data", "rows", "samples", "examples", "instances", "questions", "train", "test")
"""Names under which a file keeps its list of records."""


class JsonLines(Container):
    """One object a line."""

    kind = "JSON lines"

    def items(self) -> Iterator[Item]:
        """The objects, with file and byte offset as position; compressed files count instead."""
        n = 0
        for file_number, path in enumerate(self.files):
            with opened(path) as handle:
                for number, offset, line in byte_lines(handle, path):
                    position = n if self._packed else (file_number, offset)
                    yield Item(f"{path.name} line {number}", position, _record(line))
                    n += 1

    def read(self, position: Any) -> dict[str, Any]:
        """The line at an offset, read again."""
        if self._packed:
            return super().read(position)
        file_number, offset = position
        with open(self.files[file_number], "rb") as handle:
            handle.seek(offset)
            return json_line(handle.readline(MAX_RECORD_BYTES))

    def count(self) -> int | None:
        """Lines that are not blank."""
        if not small(self.files):
            return None
        total = 0
        for path in self.files:
            with opened(path) as handle:
                total += sum(1 for _ in byte_lines(handle, path))
        return total

    @property
    def _packed(self) -> bool:
        return any(map(is_compressed, self.files))


class JsonArray(Container):
    """One array of objects, read a piece at a time."""

    kind = "JSON"

    def items(self) -> Iterator[Item]:
        """The array's objects by number."""
        n = 0
        for path in self.files:
            with opened(path) as handle:
                for number, value in enumerate(_elements(handle, path)):
                    yield Item(f"{path.name} item {number}", n, _object(value))
                    n += 1

    def count(self) -> int | None:
        """Elements, where the file is small."""
        return sum(1 for _ in self.items()) if small(self.files) else None


class JsonObject(Container):
    """One object that holds the records: a list by name, a record by name, or a list for each column."""

    kind = "JSON"

    def __init__(self, path: Path, part: str) -> None:
        super().__init__([path], path.parent, plain_stem(path))
        self._part = part
        self._records: list[Any] | None = None

    def items(self) -> Iterator[Item]:
        """The records by number."""
        for n, value in enumerate(self._all()):
            yield Item(f"{self.files[0].name} item {n}", n, _object(value))

    def read(self, position: Any) -> dict[str, Any]:
        """The record of a number: the whole object is in memory."""
        value = _object(self._all()[position])
        if isinstance(value, BadSample):
            raise value
        return value

    def count(self) -> int | None:
        """How many records it holds."""
        return len(self._all())

    def _all(self) -> list[Any]:
        if self._records is None:
            path = self.files[0]
            with opened(path) as handle:
                raw = handle.read(MAX_RECORD_BYTES + 1)
            if len(raw) > MAX_RECORD_BYTES:
                raise InputError(
                    f"{path} is one JSON object of more than {MAX_RECORD_BYTES >> 20} MiB",
                    "write a line for each record",
                )
            try:
                self._records = _records_in(json_line(raw), self._part, path)
            except BadSample as bad:
                raise InputError(f"{path}: {bad.detail}", "is it a whole JSON file?") from None
        return self._records


def json_container(path: Path, part: str) -> Container:
    """What a JSON file holds, by its first bytes."""
    with opened(path) as handle:
        head = handle.read(_CHUNK)
    text = head.decode("utf-8-sig", errors="replace").lstrip()
    if text.startswith("["):
        return JsonArray([path], path.parent, plain_stem(path))
    if text.startswith("{") and path.suffix.lower() == ".json" and not _is_lines(head):
        return JsonObject(path, part)
    return JsonLines([path], path.parent, plain_stem(path))


def _is_lines(head: bytes) -> bool:
    """Whether the first line is an object and not the only one."""
    lines = [line for line in head.splitlines() if line.strip()]
    return len(lines) > 1 and not isinstance(_record(lines[0]), BadSample)


def _record(line: bytes) -> dict[str, Any] | BadSample:
    try:
        return json_line(line)
    except BadSample as bad:
        return bad


def _object(value: Any) -> dict[str, Any] | BadSample:
    if isinstance(value, dict | BadSample):
        return value
    return BadSample("malformed", f"a record must be an object, not a {type(value).__name__}")


def _records_in(whole: dict[str, Any], part: str, path: Path) -> list[Any]:
    """The records of an object, whichever way it holds them."""
    lists = {n: v for n, v in whole.items() if isinstance(v, list) and v and all(isinstance(r, dict) for r in v)}
    if part or len(lists) > 1:
        named = part or next((n for n in _LISTS if n in lists), "")
        if named not in lists:
            raise InputError(
                f"{path} holds {', '.join(lists) or 'no list of records'}", f'part = "{next(iter(lists), "")}"'
            )
        return lists[named]
    if lists:
        return next(iter(lists.values()))
    if whole and all(isinstance(v, dict) for v in whole.values()):
        return [{"id": name, **record} for name, record in whole.items()]
    # A list for each column, as pandas writes them with orient="list".
    if whole and all(isinstance(v, list) for v in whole.values()) and len({len(v) for v in whole.values()}) == 1:
        return [dict(zip(whole, values, strict=True)) for values in zip(*whole.values(), strict=True)]
    return [whole]


def _elements(handle: IO[bytes], path: Path) -> Iterator[Any]:
    """The elements of a JSON array, a piece of the file in memory at a time."""
    odd: list[str] = []
    decoder = json.JSONDecoder(parse_constant=odd.append)
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    text, at, ended, piece, first = "", 0, False, _CHUNK, True
    while True:
        # Blanks and one comma before each element, one bracket before the first.
        while at < len(text) and (text[at].isspace() or (text[at] == ("[" if first else ","))):
            first = first and text[at] != "["
            at += 1
        if at < len(text) and text[at] == "]":
            return
        odd.clear()
        try:
            value, end = decoder.raw_decode(text, at)
            # A number at the end of what was read may go on.
            if end == len(text) and not ended:
                raise json.JSONDecodeError("cut", text, end)
        except json.JSONDecodeError as error:
            cut = error.msg.startswith("Unterminated") or error.pos >= len(text) - 16
            if ended or not cut or len(text) - at > MAX_RECORD_BYTES:
                raise InputError(
                    f"{path} is not JSON: {error.msg} in item at character {at}", "is it a whole file?"
                ) from None
            raw = handle.read(piece)
            ended = not raw
            try:
                text, at = text[at:] + decode(raw, ended), 0
            except UnicodeError as wrong:
                raise InputError(f"{path} is not UTF-8: {wrong}", "write it again as UTF-8") from None
            # Elements larger than a piece: each piece more would be one try more over all of it.
            piece = max(_CHUNK, len(text))
            continue
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not JSON: {error}", "is it a whole file?") from None
        escaped = text.find("\\u", at, end) >= 0
        at = end
        if odd:
            yield BadSample("malformed", f"not JSON: {odd[0]} is no JSON number")
        else:
            # Half a surrogate pair is legal JSON where it is escaped, and no text that can be hashed or stored.
            yield _storable(value) if escaped else value


def _storable(value: Any) -> Any:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError as error:
        return BadSample("malformed", f"not UTF-8: {error}")
    return value
