"""Where a value lies in somebody's row: `reward_model.ground_truth`, `resps[0][0]`, or the constant `'safety'`.

What `--map FIELD=PATH` means, the same for whatever reads files. Dots go into objects, `[0]` into lists (from the end
with a minus), a part in double quotes may hold dots itself, and a text in quotes is no path but the value. Where a
column holds JSON as text, as Parquet and CSV have it, a path goes on inside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from stages.core.errors import UsageError


class _Missing:
    """The type of MISSING, which is false and shows itself by name."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISSING"


LEFT_OUT = "none"
"""In place of a path: the field is read from nowhere."""
MISSING: Final = _Missing()
"""What a path leads to where the row has nothing there; a null that stands there is None."""
_STEP = re.compile(r'\.?"(?P<quoted>[^"]*)"|\[(?P<at>-?\d+)\]|\.?(?P<plain>[^.\[\]"]+)')
_HINT = "FIELD=COLUMN, FIELD=column.inner[0], or FIELD=\"'constant'\""


@dataclass(frozen=True, slots=True)
class FieldPath:
    """Steps into a row, or a constant."""

    text: str
    """As it was written."""
    steps: tuple[str | int, ...] = ()
    """Names of objects' keys and positions in lists."""
    constant: str | None = None
    """The value itself, whatever the row holds; None for a path."""

    @property
    def column(self) -> str | None:
        """The column that it begins with; None for a constant."""
        return str(self.steps[0]) if self.constant is None else None

    def find(self, row: Mapping[str, Any]) -> Any:
        """The value in this row; MISSING where there is none."""
        if self.constant is not None:
            return self.constant
        # A column may be called `a.b`: a whole name comes before what its dots would mean.
        if self.text in row:
            return row[self.text]
        value: Any = row
        for step in self.steps:
            value = _next(_opened(value), step)
            if value is MISSING:
                return MISSING
        return value


def parse_path(text: str) -> FieldPath:
    """The path that a text means; UsageError where it means none."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]:
        return FieldPath(text, constant=text[1:-1])
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            break
        inside = found["quoted"] if found["quoted"] is not None else found["plain"]
        steps.append(int(found["at"]) if found["at"] is not None else inside)
        at = found.end()
    if at < len(text) or not steps or not isinstance(steps[0], str):
        raise UsageError(f"{text!r} is no path into a row", _HINT)
    return FieldPath(text, tuple(steps))


@dataclass(frozen=True, slots=True)
class Template:
    """A text with paths in braces: `imgs/{@file}/{id}.jpg`; `{{` and `}}` are braces of the text itself."""

    text: str
    """As it was written."""
    pieces: tuple[str | FieldPath, ...]
    """Words and paths in turn."""

    def find(self, row: Mapping[str, Any]) -> Any:
        """The text with every path's value in its place; MISSING where one of them has nothing there."""
        found = [piece if isinstance(piece, str) else piece.find(row) for piece in self.pieces]
        return MISSING if any(one is MISSING or one is None for one in found) else "".join(map(str, found))


def parse_template(text: str) -> FieldPath | Template:
    """The path that a text means, or a template where it has braces; UsageError where it means neither."""
    if "{" not in text or text.strip()[:1] in ("'", '"'):
        return parse_path(text)
    pieces: list[str | FieldPath] = []
    # `split` gives words and what was found between them in turn; of a doubled brace one stays.
    for n, piece in enumerate(re.split(r"(\{\{|\}\}|\{[^{}]*\})", text)):
        is_path = n % 2 and len(piece) > 2
        pieces.append(parse_path(piece[1:-1]) if is_path else piece[:1] if n % 2 else piece)
    return Template(text, tuple(pieces))


def parse_map(specs: Iterable[str], where: str = "--map") -> dict[str, FieldPath]:
    """`FIELD=PATH` texts by field; UsageError for one without `=`, and for a field that is mapped twice."""
    found: dict[str, FieldPath] = {}
    for spec in specs:
        name, equals, path = spec.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UsageError(f"{where} {spec!r} has no field and '='", _HINT)
        if name in found:
            raise UsageError(f"{where} names the field {name!r} twice", "leave one of them out")
        found[name] = parse_path(path)
    return found


def _opened(value: Any) -> Any:
    """What a text of JSON holds; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        # Words that begin with a bracket. RecursionError: brackets some thousand deep.
        except (ValueError, RecursionError):
            return value
    return value


def _next(value: Any, step: str | int) -> Any:
    if isinstance(step, int):
        is_there = isinstance(value, list | tuple) and -len(value) <= step < len(value)
        return value[step] if is_there else MISSING
    return value.get(step, MISSING) if isinstance(value, Mapping) else MISSING
