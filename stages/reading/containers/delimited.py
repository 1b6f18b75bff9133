"""CSV and TSV: a head of names, then rows, of any size a field."""

from __future__ import annotations

import csv
from collections.abc import Iterator
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
    plain_suffix,
    small,
)

_INDEX_DIGITS = 12
"""An image cell of no more characters than this, digits all, names the row that has the image."""


class Delimited(Container):
    """Rows of a CSV or TSV file, all values text, empty ones left out."""

    def __init__(self, path: Path, lenient: bool = False) -> None:
        """`lenient`: of columns of one name the last counts, as in most people's readers; else an InputError."""
        super().__init__([path], path.parent, plain_stem(path))
        self.kind = "TSV" if plain_suffix(path) in (".tsv", ".tab") else "CSV"
        self._names, self._separator = _head(path, self.kind, lenient)
        self._images: dict[str, Any] | None = None
        # A process-wide limit of csv, 128 KiB if nobody says otherwise; an image in base64 is more.
        csv.field_size_limit(max(csv.field_size_limit(), base.MAX_RECORD_BYTES))

    def items(self) -> Iterator[Item]:
        """The rows, with the byte offset as position; compressed files count instead."""
        for n, (line, offset, values) in enumerate(self._rows()):
            position = n if self.is_packed else offset
            yield Item(f"{self.files[0].name} line {line}", position, self._record(values))

    def read(self, position: Any) -> dict[str, Any]:
        """The row at an offset, read again."""
        if self.is_packed:
            return super().read(position)
        with open(self.files[0], "rb") as handle:
            handle.seek(position)
            texts = (_decoded(line, self.files[0], number) for number, _, line in byte_lines(handle, blank=True))
            try:
                values = next(csv.reader(texts, delimiter=self._separator))
            except (csv.Error, StopIteration):
                raise changed(self.files[0].name) from None
        record = self._record(values)
        if isinstance(record, BadSample):
            raise record
        return record

    def count(self) -> int | None:
        """Rows, where the file is small."""
        return sum(1 for _ in self._rows()) if small(self.files) else None

    def _rows(self) -> Iterator[tuple[int, int, list[str]]]:
        """(line, byte offset, values) of every row after the head."""
        path, end, row = self.files[0], 0, list[str]()

        def texts(handle: IO[bytes]) -> Iterator[str]:
            """The file's lines; beside them, where the last ends and which are of the row in hand."""
            nonlocal end
            for number, offset, line in byte_lines(handle, blank=True):
                row.append(_decoded(line, path, number))
                end = offset + len(line)  # type: ignore[arg-type]
                yield row[-1]

        with opened(path) as handle:
            reader = csv.reader(texts(handle), delimiter=self._separator)
            start, last = 0, list[str]()
            try:
                for number, values in enumerate(reader):
                    # The reader takes lines one by one: what it has taken so far is where the next row begins.
                    if number and values:
                        yield reader.line_num, start, values
                    start, last = end, row.copy()
                    row.clear()
                # Only `strict` knows of a quote that is never closed, and it refuses too much else to be used for all.
                list(csv.reader(last, delimiter=self._separator, strict=True))
            except csv.Error as error:
                raise InputError(
                    f"{path} is no {self.kind} in line {reader.line_num}: {error}", "is a quote left open?"
                ) from None

    def _record(self, values: list[str]) -> dict[str, Any] | BadSample:
        if len(values) > len(self._names):
            more = f"{len(values)} values for {len(self._names)} columns"
            return BadSample("malformed", f"{more}: a {self._separator!r} inside a value needs quotes around it")
        record = {n: v for n, v in zip(self._names, values, strict=False) if v != ""}
        return self._with_image(record)

    def _with_image(self, record: dict[str, Any]) -> dict[str, Any] | BadSample:
        """The record with the image of the row that its image cell names by index, as VLMEvalKit stores repeats."""
        named = record.get("image", "")
        if "index" not in self._names or not named.isdigit() or len(named) > _INDEX_DIGITS:
            return record
        if self._images is None:
            at, index = self._names.index("image"), self._names.index("index")
            self._images = {}
            for n, (_, offset, values) in enumerate(self._rows()):
                if len(values) > max(at, index) and len(values[at]) > _INDEX_DIGITS:
                    self._images[values[index]] = n if self.is_packed else offset
        if named not in self._images:
            return BadSample("missing_image", f"image {named} is no row with an image")
        if self.is_packed:
            return BadSample("missing_image", f"image {named} is another row's, and the file is compressed: unpack it")
        return {**record, "image": self.read(self._images[named])["image"]}


def _head(path: Path, kind: str, lenient: bool) -> tuple[list[str], str]:
    """(names, separator) of the first line."""
    with opened(path) as handle:
        first = next(byte_lines(handle), None)
    if first is None:
        raise InputError(f"{path} is empty", "its first line names the columns")
    line = _decoded(first[2], path, 1).lstrip("\ufeff")
    if "\0" in line:
        raise InputError(f"{path} has NUL bytes in line 1: UTF-16 without its mark?", _RECODE)
    separator = "\t" if kind == "TSV" else max(",;\t|", key=line.count)
    try:
        names = [name.strip() for name in next(csv.reader([line], delimiter=separator))]
    except (csv.Error, StopIteration) as error:
        if "\r" in line.rstrip("\r\n"):
            hint = f"tr '\\r' '\\n' < {path.name} > LINES{path.suffix}"
            raise InputError(f"{path} ends its lines with a carriage return alone", hint) from None
        raise InputError(f"{path} is no {kind} in line 1: {error}", "its first line names the columns") from None
    doubled = next((n for n in names if n and names.count(n) > 1), None)
    if doubled is not None and not lenient:
        raise InputError(f"{path} has two columns {doubled!r}", "give each a name of its own")
    return names, separator


def _decoded(line: bytes | BadSample, path: Path, number: int) -> str:
    if isinstance(line, BadSample):
        raise InputError(f"{path}: {line.detail}", "is it a table? Is a quote left open?")
    try:
        return line.decode("utf-8")
    except UnicodeError:
        raise InputError(f"{path} is not UTF-8 in line {number}", _RECODE) from None


_RECODE = "iconv -f WINDOWS-1252 -t UTF-8 (or UTF-16LE), or save it as UTF-8"
