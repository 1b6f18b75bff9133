"""JSON: objects line by line, arrays of objects, and objects that hold either."""

from __future__ import annotations

import codecs
import contextlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from stages.core.errors import BadSample, InputError
from stages.reading.containers import base
from stages.reading.containers.base import (
    Container,
    Item,
    byte_lines,
    changed,
    opened,
    plain_stem,
    small,
    taken,
)
from stages.reading.files import json_line

_CHUNK = 1 << 20
_LISTS = ("data", "rows", "samples", "examples", "instances", "questions", "train", "test")
"""Names under which a file keeps its list of records."""


class JsonLines(Container):
    """One object a line."""

    kind = "JSON lines"

    def __init__(self, files: list[Path], folder: Path | None, name: str, lenient: bool = False) -> None:
        """`lenient`: NaN and Infinity, which are not JSON, are read; else a line with one is a BadSample."""
        super().__init__(files, folder, name)
        self._lenient = lenient

    def items(self) -> Iterator[Item]:
        """The objects, with file and byte offset as position; compressed files count instead."""
        n = 0
        for file_number, path in enumerate(self.files):
            with opened(path) as handle:
                for number, offset, line in byte_lines(handle):
                    position = n if self.is_packed else (file_number, offset)
                    yield Item(f"{path.name} line {number}", position, self._record(line))
                    n += 1

    def read(self, position: Any) -> dict[str, Any]:
        """The line at an offset, read again."""
        if self.is_packed:
            return super().read(position)
        file_number, offset = position
        with open(self.files[file_number], "rb") as handle:
            handle.seek(offset)
            return json_line(handle.readline(base.MAX_RECORD_BYTES), self._lenient)

    def _record(self, line: bytes | BadSample) -> dict[str, Any] | BadSample:
        try:
            return line if isinstance(line, BadSample) else json_line(line, self._lenient)
        except BadSample as bad:
            return bad

    def count(self) -> int | None:
        """Lines that are not blank."""
        if not small(self.files):
            return None
        total = 0
        for path in self.files:
            with opened(path) as handle:
                total += sum(1 for _ in byte_lines(handle))
        return total


class JsonArray(Container):
    """One array of objects, read a piece at a time."""

    kind = "JSON"

    def __init__(self, path: Path, lenient: bool = False) -> None:
        """`lenient`: NaN and Infinity are read; else an element with one is a BadSample."""
        super().__init__([path], path.parent, plain_stem(path))
        self._lenient = lenient

    def items(self) -> Iterator[Item]:
        """The array's objects by number."""
        n = 0
        for path in self.files:
            with opened(path) as handle:
                for number, value in enumerate(_elements(handle, path, self._lenient)):
                    yield Item(f"{path.name} item {number}", n, _object(value))
                    n += 1

    def count(self) -> int | None:
        """Elements, where the file is small."""
        return sum(1 for _ in self.items()) if small(self.files) else None


class JsonObject(Container):
    """One object that holds the records: a list by name, a record by name, or a list for each column."""

    kind = "JSON"

    def __init__(self, path: Path, part: str, lenient: bool = False) -> None:
        super().__init__([path], path.parent, plain_stem(path))
        self._part, self._lenient = part, lenient

    def items(self) -> Iterator[Item]:
        """The records by number."""
        for n, value in enumerate(self._all()):
            yield Item(f"{self.files[0].name} item {n}", n, _object(value))

    def read(self, position: Any) -> dict[str, Any]:
        """The record of a number: the whole object is in memory."""
        records = self._all()
        if position >= len(records):
            raise changed(self.name)
        return taken(Item("", position, _object(records[position])))

    def count(self) -> int | None:
        """How many records it holds."""
        return len(self._all())

    def _all(self) -> list[Any]:
        path = self.files[0]
        # Remembered one at a time: a run may have many such files.
        records, beside = _document(path, path.stat().st_mtime_ns, self._part, self._lenient)
        if records is None:
            return self._itself(beside)
        self.head = beside
        return records

    def _itself(self, whole: dict[str, Any]) -> list[Any]:
        """The records of an object that holds none."""
        return [whole]


@lru_cache(maxsize=1)
def _document(path: Path, mtime_ns: int, part: str, lenient: bool) -> tuple[list[Any] | None, dict[str, Any]]:
    """What one JSON object holds, see `_records_in`; `mtime_ns` is there so that a changed file is read anew."""
    with opened(path) as handle:
        raw = handle.read(base.MAX_DOCUMENT_BYTES + 1)
    if len(raw) > base.MAX_DOCUMENT_BYTES:
        raise InputError(
            f"{path} is one JSON object, of more bytes than fit: {base.MAX_DOCUMENT_BYTES} are read at most",
            "write a line for each record",
        )
    try:
        return _records_in(json_line(raw, lenient), part, path)
    except BadSample as bad:
        hint = _ONE_A_LINE if "Extra data" in bad.detail else "is it a whole JSON file?"
        raise InputError(f"{path} is no JSON document: {bad.detail}", hint) from None


def json_container(path: Path, part: str, lenient: bool = False) -> Container:
    """What a JSON file holds, by its first bytes."""
    with opened(path) as handle:
        head = handle.read(_CHUNK)
    text = head.decode("utf-8-sig", errors="replace").lstrip()
    if text.startswith("["):
        return JsonArray(path, lenient)
    if text.startswith("{") and path.suffix.lower() == ".json" and not _is_lines(head):
        return JsonObject(path, part, lenient)
    if path.suffix.lower() == ".json" and not text.startswith("{"):
        raise InputError(f"{path} holds no list of rows", "a list of objects, or one object that holds it, is read")
    if text.split("\n", 1)[0].strip() == "{":
        raise InputError(f"{path} has objects over several lines, and a record is read from one", _ONE_A_LINE)
    return JsonLines([path], path.parent, plain_stem(path), lenient)


_ONE_A_LINE = "a line for each record: jq -c . FILE > LINES.jsonl"


def _is_lines(head: bytes) -> bool:
    """Whether the first line is an object and not the only one."""
    lines = [line for line in head.splitlines() if line.strip()]
    return len(lines) > 1 and _is_object(lines[0])


def _is_object(line: bytes) -> bool:
    with contextlib.suppress(BadSample):
        json_line(line, lenient=True)
        return True
    return False


def _object(value: Any) -> dict[str, Any] | BadSample:
    if isinstance(value, dict | BadSample):
        return value
    return BadSample("malformed", f"a record must be an object, not a {type(value).__name__}")


def _records_in(whole: dict[str, Any], part: str, path: Path) -> tuple[list[Any] | None, dict[str, Any]]:
    """(records of an object, whichever way it holds them, what stands beside them); (None, the whole) without any."""
    lists = _lists_of_objects(whole)
    inside = {n: v for n, v in whole.items() if isinstance(v, dict)}
    if not lists and (len(inside) < len(whole) or any(n in _LISTS for n in inside)):
        # One level down: {"version": 1, "data": {"train": [...]}}; a record by name may hold lists of its own.
        lists = {f"{n}.{m}": v for n, inner in inside.items() for m, v in _lists_of_objects(inner).items()}
    if part or lists:
        only = next(iter(lists)) if len(lists) == 1 else ""
        named = part or only or next((n for known in _LISTS for n in lists if n.rpartition(".")[2] == known), "")
        if named not in lists:
            raise InputError(
                f"{path} holds no list of rows by a name that is known, but {', '.join(lists) or 'none'}",
                f'part = "{next(iter(lists), "")}"',
            )
        return lists[named], {n: v for n, v in whole.items() if n != named.partition(".")[0]}
    if whole and all(isinstance(v, dict) for v in whole.values()):
        return [{"id": name, **record} for name, record in whole.items()], {}
    # A list for each column, as pandas writes them with orient="list".
    if whole and all(isinstance(v, list) for v in whole.values()) and len({len(v) for v in whole.values()}) == 1:
        return [dict(zip(whole, values, strict=True)) for values in zip(*whole.values(), strict=True)], {}
    return None, whole


def _lists_of_objects(whole: dict[str, Any]) -> dict[str, list[Any]]:
    return {n: v for n, v in whole.items() if isinstance(v, list) and v and isinstance(v[0], dict)}


def _elements(handle: IO[bytes], path: Path, lenient: bool) -> Iterator[Any]:
    """The elements of a JSON array, a piece of the file in memory at a time."""
    odd: list[str] = []
    decoder = json.JSONDecoder(parse_constant=None if lenient else odd.append)
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
            if ended or not cut or len(text) - at > base.MAX_RECORD_BYTES:
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
