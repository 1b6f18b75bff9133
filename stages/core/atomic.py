"""Small files: written whole or not at all, read with an error that names the file."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

from stages.core.errors import InputError, first_line


def read_json(path: Path) -> Any:
    """Parsed JSON of one of our small files; InputError when it is none, or can't be read."""
    try:
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(
            f"{path} can't be read: {error.strerror}", "look at its permissions, or delete its run folder and rerun"
        ) from None


def parse_json(data: bytes, where: str) -> Any:
    """Parsed JSON; InputError that names `where` when it is none."""
    try:
        return json.loads(data.decode("utf-8"))
    except RecursionError:
        why = "it is nested too deeply"
    except ValueError as error:
        # Wrong JSON, wrong UTF-8, and numbers of more digits than Python converts.
        why = first_line(error)
    raise InputError(f"{where} is not valid JSON: {why}", "restore it, or delete its run folder and rerun")


def parse_toml(data: bytes | str) -> dict[str, Any]:
    """Parsed TOML; ValueError that says what is wrong: wrong TOML, wrong UTF-8, or tables nested too deeply."""
    try:
        return tomllib.loads(data.decode("utf-8") if isinstance(data, bytes) else data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def json_bytes(value: Any) -> bytes:
    """A value as the JSON of our small files: indented, UTF-8."""
    return json.dumps(value, indent=1, ensure_ascii=False).encode()


def write_json(path: Path, value: Any) -> None:
    """A JSON file, whole or not at all, in place of any other."""
    write_bytes(path, json_bytes(value))


def create_json(path: Path, value: Any, beside: Path | None = None) -> bool:
    """A JSON file, whole or not at all, where there is none; False where another was first, which stays.

    `beside` is where it is written first, on the same file system: a name that no other process has.
    """
    beside = beside or aside_of(path)
    _write_synced(beside, json_bytes(value))
    try:
        # Unlike a rename, a link fails where another process was first, with or without locks.
        os.link(beside, path)
    except FileExistsError:
        return False
    finally:
        beside.unlink(missing_ok=True)
    return True


def write_bytes(path: Path, data: bytes) -> None:
    """A file, whole or not at all, in place of any other: written beside, synced, renamed."""
    # Beside it and not in a temporary folder: a rename is atomic within one file system only.
    beside = aside_of(path)
    for last in (False, True):
        _write_synced(beside, data)
        try:
            os.replace(beside, path)
            return
        except FileNotFoundError:
            # Another process may tidy up what it takes for the leftovers of a dead one.
            if last:
                raise


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "wb") as handle:
        handle.write(data)
        handle.flush()
        # A rename may reach the disk before the content does: after a power loss the file would be empty.
        os.fsync(handle.fileno())


def aside_of(path: Path) -> Path:
    """Where a file is written before it gets its name; the number is the writing process's."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def remove_asides(folder: Path, names: tuple[str, ...]) -> None:
    """Delete what killed processes of this machine left of these files before they had their names."""
    for name in names:
        # On a shared file system the number may be of another machine, where it lives: `write_bytes` then tries again.
        for path in folder.glob(f".{name}.*"):
            number = path.name.rpartition(".")[2]
            if number.isdecimal() and not _alive(int(number)):
                path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        # Signal 0 is never delivered; it only asks whether the process is there.
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # It lives and is another user's, or the number is larger than any process's: neither is ours to tidy up.
    except (PermissionError, OverflowError):
        return True
    return True


def move_into_place(staged: Path, final: Path) -> None:
    """Rename a file to its final name; somebody else having just done so is fine."""
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(staged, final)
    except FileNotFoundError:
        if not final.exists():
            raise
