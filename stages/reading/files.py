"""Source files: found or named in an error, hashed once, read line by line; a bad line is a bad sample."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from schemas.identity import digest
from stages.core.cache import cache_root
from stages.core.errors import BadSample, InputError
from stages.core.file_digest import file_sha256, is_sha256

# Below this, hashing again is as quick as looking the digest up on disk.
_REMEMBER_BYTES = 16 << 20
_known: dict[tuple[str, int, int], str] = {}


def first_file(root: Path, names: Iterable[str], what: str) -> Path:
    """The first of these files below `root`, or `root` itself if it is a file; InputError names them all."""
    if root.is_file():
        return root
    names = list(names)
    if not root.exists():
        raise InputError(f"no such file or folder: {root}", f"{what} is read from a folder with {names[0]}")
    for name in names:
        if (root / name).is_file():
            return root / name
    missing = " and no ".join(names)
    raise InputError(f"{root} is not {what}: it has no {missing}", "give the folder that holds it")


def matching(root: Path, suffix: str, what: str) -> list[Path]:
    """`root` itself if it is a file, else its files with that suffix, sorted; InputError if there is none."""
    if root.is_file():
        return [root]
    if not root.exists():
        raise InputError(f"no such file or folder: {root}", f"give {what} or a folder of them")
    # Sorted: a folder lists its files in an order of its own, and records must come alike on every machine.
    found = sorted(p for p in root.iterdir() if p.suffix == suffix and p.is_file())
    if not found:
        raise InputError(f"{root} holds no {suffix} file", f"give {what} or a folder of them")
    return found


def is_file(path: Path) -> bool:
    """Whether a file is there; False too where the name is too long for the disk or its folder can't be entered.

    `Path.is_file` raises for those two, and names of images come from rows of data, where anything may stand.
    """
    try:
        return path.is_file()
    except OSError:
        return False


def digest_if_file(path: Path) -> str | None:
    """`sha256` of a file that a row names, or None where it can't be had: the row itself is rejected for that."""
    try:
        return sha256(path) if is_file(path) else None
    except InputError:
        return None


def sha256(path: Path) -> str:
    """Content digest of a file; remembered by path, size and mtime, on disk too when the file is large."""
    try:
        stat = path.stat()
        # Size and nanoseconds of mtime: a file that is written again in the same second is another file.
        known = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
        if known not in _known:
            _known[known] = _remembered(path, known)
        return _known[known]
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}", "check path and permissions") from None


def _remembered(path: Path, known: tuple[str, int, int]) -> str:
    note = cache_root() / "files" / digest(list(known))[:32]
    large = known[1] >= _REMEMBER_BYTES
    if large and (noted := _noted(note)) is not None:
        return noted
    found = file_sha256(path)
    if large:
        write_cache_file(note, found.encode())
    return found


def _noted(note: Path) -> str | None:
    """The digest that a note of the user cache holds. A cache decides nothing: a damaged note is as good as none."""
    try:
        text = note.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return text if is_sha256(text) else None


def write_cache_file(note: Path, data: bytes) -> None:
    """Put a file into the user cache whole; a cache that can't be written costs time and nothing else."""
    # A name of its own for each writer, then one rename: two processes never see half a note of the other.
    aside = note.with_name(f".{note.name}.{uuid.uuid4().hex[:8]}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        os.replace(aside, note)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()


def lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(line number from 1, byte offset, line) of every line that is not blank."""
    offset = 0
    # Bytes, not text: offsets are what `seek` takes later, and in text mode a length counts characters.
    with open(path, "rb") as handle:
        for number, raw in enumerate(handle, start=1):
            if raw.strip():
                yield number, offset, raw
            offset += len(raw)


def json_line(raw: bytes, lenient: bool = False) -> dict[str, Any]:
    """One JSON object; BadSample `malformed` says what is wrong with the line. `lenient` takes NaN and Infinity."""
    try:
        # `-sig` takes a byte order mark off the first line; Python's json takes NaN and Infinity, which are not JSON.
        value = json.loads(raw.decode("utf-8-sig"), parse_constant=None if lenient else _no_constant)
        if b"\\u" in raw:
            # Half a surrogate pair is legal JSON, and no text that can be hashed or stored.
            json.dumps(value, ensure_ascii=False).encode()
    # UnicodeError and JSONDecodeError are ValueErrors, so they come first. What is left for ValueError: a constant
    # above, and integers of more digits than Python converts (4300). RecursionError: brackets some thousand deep.
    except UnicodeError as error:
        raise BadSample("malformed", f"not UTF-8: {error}; iconv -f WINDOWS-1252 -t UTF-8, perhaps") from None
    except json.JSONDecodeError as error:
        raise BadSample("malformed", f"not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise BadSample("malformed", f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadSample("malformed", f"a line must be an object, not a {type(value).__name__}")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def csv_rows(path: Path, columns: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV file; InputError names a missing column, a short row has None values."""
    # `newline=""` leaves line ends to csv, which needs them inside quoted fields.
    with open(path, encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle)
        try:
            found = list(reader.fieldnames or ())
            missing = [c for c in columns if c not in found]
            if missing:
                raise InputError(f"{path} has no column {missing[0]!r}", f"its columns: {', '.join(found) or 'none'}")
            for row in reader:
                # `line_num` counts lines of the file, not rows: a quoted field may span several, and an editor shows
                # the line.
                yield reader.line_num, row
        # csv.Error: a field beyond csv's 131072 characters, which is what an unclosed quote makes of the rest of a
        # file.
        except (csv.Error, UnicodeError) as error:
            raise InputError(
                f"{path} is not a CSV file in UTF-8 after line {reader.line_num}: {error}",
                "check that it is the file its authors published",
            ) from None


def column(item: dict[str, Any], name: str) -> str:
    """A text that must be there; BadSample `malformed` names the column."""
    value = item.get(name)
    if value is None:
        raise BadSample("malformed", f"column {name!r} is missing")
    if not isinstance(value, str):
        raise BadSample("malformed", f"column {name!r} is a {type(value).__name__}, and must be text")
    return value
