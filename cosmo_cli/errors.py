"""From whatever went wrong to one clear line, a hint and an exit code."""

from __future__ import annotations

import errno
import os

from cosmo_cli.output import ClosedPipe
from stages.core.errors import FAILED, USAGE, CosmoError

INTERRUPTED, CLOSED_PIPE = 130, 141

_SYSTEM = {
    errno.ENOSPC: (
        "the disk is full",
        "free some space and run the same command: it goes on where it stopped",
    ),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again"),
    errno.EFBIG: (
        "a file grew over the size limit",
        "raise the limit (ulimit -f) and run the same command again",
    ),
    errno.EROFS: ("the file system is read-only", "choose another place with --runs FOLDER"),
    errno.EACCES: ("permission denied", "check the owner, or choose another place with --runs FOLDER"),
    errno.EPERM: ("not permitted", "check the owner, or choose another place with --runs FOLDER"),
}


def explain(error: BaseException, verb: str = "") -> tuple[str, str, int]:
    """(message, hint, exit code) of an exception in a command."""
    if isinstance(error, CosmoError):
        return error.message, error.hint, error.code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "the same command goes on where it stopped", INTERRUPTED
    if isinstance(error, BrokenPipeError | ClosedPipe):
        return "", "", CLOSED_PIPE
    # Typer carries a Click of its own and exports no common base of its usage errors.
    if callable(format_message := getattr(error, "format_message", None)):
        return (
            str(format_message()),
            f"cosmo {verb} --help".replace("  ", " "),
            getattr(error, "exit_code", USAGE),
        )
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, MemoryError):
        return "out of memory", "lower the batch sizes (cosmo COMMAND --help)", FAILED
    line = (str(error).splitlines() or [""])[0]
    return (
        f"unexpected {type(error).__name__}: {line}",
        "this looks like a bug: run again with COSMO_DEBUG=1 for the traceback",
        FAILED,
    )


def _of_system(error: OSError) -> tuple[str, str, int]:
    what, hint = _SYSTEM.get(error.errno or 0, (error.strerror or str(error), "check the path and run again"))
    where = f" ({error.filename})" if error.filename else ""
    return f"{what}{where}", hint, FAILED


def debugging() -> bool:
    """Whether a person asked for tracebacks."""
    return os.environ.get("COSMO_DEBUG", "") not in ("", "0")
