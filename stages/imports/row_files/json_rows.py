"""Rows in JSON: a line each, or a document as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from stages.core.errors import BadSample, InputError
from stages.imports.row_files import base
from stages.imports.row_files.base import At, FoundRow, Row, RowFile, changed, json_object, parsed_json, too_large


class JsonLines(RowFile):
    """One JSON object a line; a place is the line's offset."""

    def rows(self) -> Iterator[FoundRow]:
        """Lines that are not blank. One beyond the limit is passed over without being read whole."""
        number, offset = 0, 0
        with open(self.path, "rb") as handle:
            while raw := handle.readline(base.MAX_ROW_BYTES + 1):
                number += 1
                begin, offset = offset, offset + len(raw)
                ref = f"{self.path.name} line {number}"
                if len(raw) > base.MAX_ROW_BYTES:
                    while raw and not raw.endswith(b"\n"):
                        raw = handle.readline(base.MAX_ROW_BYTES)
                        offset += len(raw)
                    yield FoundRow(ref, begin, too_large(ref))
                elif raw.strip():
                    yield FoundRow(ref, begin, _attempt(raw))

    def row(self, at: At) -> Row:
        """The line that begins there."""
        with open(self.path, "rb") as handle:
            handle.seek(int(at))
            return json_object(handle.readline(base.MAX_ROW_BYTES + 1))


def _attempt(raw: bytes) -> Row | BadSample:
    try:
        return json_object(raw)
    except BadSample as bad:
        return bad


class WholeJson(RowFile):
    """One JSON document: a list of objects, an object that holds one, or an object of rows by id."""

    def rows(self) -> Iterator[FoundRow]:
        """The rows, wherever in the document they are; a place is a number."""
        found, head = _json_rows(self.path, self.path.stat().st_mtime_ns)
        self.head = head
        for n, row in enumerate(found):
            fits = isinstance(row, dict)
            wrong = None if fits else BadSample("malformed", f"a row must be an object, not a {type(row).__name__}")
            yield FoundRow(f"{self.path.name} row {n}", n, wrong or row)

    def row(self, at: At) -> Row:
        """The row of that number."""
        found, self.head = _json_rows(self.path, self.path.stat().st_mtime_ns)
        if int(at) >= len(found):
            raise changed(self.path)
        return dict(found[int(at)])


@lru_cache(maxsize=1)
def _json_rows(path: Path, mtime_ns: int) -> tuple[list[Any], Row]:
    """(rows, what stands beside them); `mtime_ns` is there so that a changed file is read anew."""
    if (size := path.stat().st_size) > base.MAX_JSON_BYTES:
        raise InputError(
            f"{path} has {size} bytes, and {base.MAX_JSON_BYTES} are read at most", "save it as JSON lines"
        )
    try:
        value = parsed_json(path.read_bytes())
    except BadSample as bad:
        raise InputError(f"{path} is no JSON document: {bad.detail}", "JSON lines are called .jsonl") from None
    if isinstance(value, list):
        return value, {}
    if isinstance(value, dict):
        lists = [name for name, v in value.items() if isinstance(v, list) and v and isinstance(v[0], dict)]
        if len(lists) == 1 or "samples" in lists:
            name = "samples" if "samples" in lists else lists[0]
            return value[name], {k: v for k, v in value.items() if k != name}
        if value and not lists and all(isinstance(v, dict) for v in value.values()):
            return [{"id": name, **row} for name, row in value.items()], {}
        if value and all(isinstance(v, str) for v in value.values()):
            return [{"id": name, "completion": text} for name, text in value.items()], {}
    raise InputError(f"{path} holds no list of rows", "a list of objects, or one object of them by id, is read")
