"""A file of rows, each known by where it lies, so that a shard reads its own again and nothing else.

`rows` goes through all of them once, in order; `row` reads one again. What is wrong with one row is a BadSample in its
place; a file that can't be read as a whole is an InputError. One class a kind of file: `json_rows`, `tables`,
`eval_logs`. `kinds` has them by suffix.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import BadSample, InputError, first_line

MAX_ROW_BYTES = 64 << 20
"""One row, images in it included."""
MAX_JSON_BYTES = 1 << 30
"""A file that has to be in memory as a whole."""
Row = dict[str, Any]
At = int | str
"""Where a row lies in its file: a byte offset, a number, a name."""


@dataclass(frozen=True, slots=True)
class FoundRow:
    """One row of a file."""

    ref: str
    """For people: `file.jsonl line 3`. No machine paths."""
    at: At
    row: Row | BadSample


class RowFile(ABC):
    """A file of rows. `head` is what it says of all of them (inspect's header), known once `rows` has begun."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head: Row = {}

    @abstractmethod
    def rows(self) -> Iterator[FoundRow]:
        """Every row in order."""

    @abstractmethod
    def row(self, at: At) -> Row:
        """The row at a place that `rows` gave; BadSample, or InputError where the file is another by now."""


def json_object(raw: bytes) -> Row:
    """One JSON object; BadSample `malformed` says what is wrong."""
    value = parsed_json(raw)
    if not isinstance(value, dict):
        raise BadSample("malformed", f"a row must be an object, not a {type(value).__name__}")
    return value


def parsed_json(raw: bytes) -> Any:
    """The JSON value of some bytes; BadSample `malformed` says what is wrong with them."""
    try:
        # `-sig` takes a byte order mark off. NaN stays: tools write it for scores that they could not make.
        value = json.loads(raw.decode("utf-8-sig"))
        if b"\\u" in raw:
            # Half a surrogate pair is legal JSON, and no text that can be stored.
            json.dumps(value, ensure_ascii=False).encode()
        return value
    # UnicodeError first: it and JSONDecodeError are ValueErrors. RecursionError: brackets some thousand deep.
    except UnicodeError as error:
        raise BadSample("malformed", f"not UTF-8: {first_line(error)}") from None
    except (ValueError, RecursionError) as error:
        raise BadSample("malformed", f"not JSON: {first_line(error)}") from None


def too_large(name: str) -> BadSample:
    """What is said of a row beyond the limit."""
    return BadSample("too_large", f"{name} has more than {MAX_ROW_BYTES} bytes")


def changed(path: Path) -> InputError:
    """What is said of a file in which a planned row is not found again."""
    return InputError(f"{path} changed while it was imported", "run the command again")
