"""Failures a person can act on. Everything else is a bug and may show its traceback."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable

FAILED, USAGE, BAD_INPUT, UNAVAILABLE = 1, 2, 3, 4


class CosmoError(Exception):
    """A run that can't go on: one line that names the value, one hint to type, one exit code."""

    code = FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CosmoError):
    """A flag, recipe key or plugin name that can't be right. Exit 2."""

    code = USAGE


class InputError(CosmoError):
    """Upstream rows or files that are missing, incomplete or malformed. Exit 3."""

    code = BAD_INPUT


class UnavailableError(CosmoError):
    """Something this machine lacks: an extra, a GPU, a model, a server. Exit 4."""

    code = UNAVAILABLE


class NoRoomError(OSError):
    """The place for a file that is known beforehand to have `needed` bytes, and that didn't fit."""

    def __init__(self, number: int, place: str, needed: int) -> None:
        super().__init__(number, os.strerror(number), place)
        self.needed = needed


class BadSample(Exception):
    """One sample that can't be used; the runner keeps it as a rejected row with its reason.

    `reason` is a slug (`bad_image`, `too_large`, `malformed`), `detail` one line naming the value.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something; its type where none does."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The system's numbers for a disk, a quota or a file size that is used up."""


def system_number(error: BaseException) -> int | None:
    """The system's number of an error, also where safetensors wrote: its own error has it in words alone."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
    return int(found[1]) if found else None


def what_failed(error: BaseException) -> str:
    """What a library's error says, with its type where that is one which says little by itself: `KeyError: 'model'`."""
    name, line = type(error).__name__, first_line(error)
    speaks = isinstance(error, OSError | ValueError | RuntimeError) or name == "SafetensorError"
    return line if speaks or line == name else f"{name}: {line}"


def closest(name: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Up to `most` known names that are like the one that was typed, the closest first; `cutoff` 1 is equality."""
    import difflib

    return difflib.get_close_matches(name, list(known), n=most, cutoff=cutoff)


def did_you_mean(name: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> str:
    """`did you mean 'x'?`, or `'x' or 'y'` where `most` allows it; empty where no known name is close."""
    close = closest(name, known, most, cutoff)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else ""
