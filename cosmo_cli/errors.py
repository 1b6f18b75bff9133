"""From whatever went wrong to one clear line, a hint and an exit code."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cosmo_cli.process import debugging
from cosmo_cli.terminal.output import ClosedPipe, complain
from stages.core.errors import FAILED, NO_ROOM, UNAVAILABLE, USAGE, CosmoError, NoRoomError, first_line, system_number

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


_PLACE = (*NO_ROOM, errno.EROFS)
"""What the place for the run lacks: exit 4, as for anything that this machine lacks."""


def guarded(verb: str, call: Callable[[], Any]) -> int:
    """The exit code of a call that may fail; what went wrong is one line and a hint on stderr.

    Raises SystemExit as it comes, and with COSMO_DEBUG whatever the call raised.
    """
    try:
        code = call()
        if code == INTERRUPTED:  # what Typer makes of a KeyboardInterrupt
            raise KeyboardInterrupt
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    # Ctrl-C is no Exception, and it, too, ends in one line.
    except BaseException as error:
        # How Typer and a rank end on purpose: the code that they chose stands.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        message, hint, status = explain(error, verb)
        if status == CLOSED_PIPE:
            # The reader is gone; Python would complain again when it flushes stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return status
        if debugging():
            raise
        from cosmo_cli.rank_output import should_report

        if should_report(verb, error):
            complain(verb, message, hint)
        return status


def explain(error: BaseException, verb: str = "") -> tuple[str, str, int]:
    """(message, hint, exit code) of an exception in a command."""
    if isinstance(error, CosmoError):
        return error.message, error.hint, error.code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "the same command goes on where it stopped", INTERRUPTED
    # Click ends with 1 where help is cut off by its reader.
    if isinstance(error, BrokenPipeError | ClosedPipe | SystemExit):
        return "", "", CLOSED_PIPE
    # Typer carries a Click of its own and exports no common base of its usage errors.
    if callable(format_message := getattr(error, "format_message", None)):
        return (
            str(format_message()),
            f"cosmo {verb} --help".replace("  ", " "),
            getattr(error, "exit_code", USAGE),
        )
    # Whoever wrote the file, a full disk is nobody's fault.
    if (number := system_number(error)) in _PLACE:
        return _of_system(error if isinstance(error, OSError) else OSError(number, ""))
    # By now a plugin's module is loaded, or there is none that could be at fault.
    outside = sys.modules.get("stages.core.plugins.outside")
    if outside is not None and (where := outside.line_of_plugin(error)) is not None:
        return f"{type(error).__name__}: {first_line(error)}", f"in a plugin's own code: {where}", FAILED
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, MemoryError):
        return "out of memory", "lower the batch sizes (cosmo COMMAND --help)", FAILED
    return (
        f"unexpected {type(error).__name__}: {first_line(error)}",
        "this looks like a bug: run again with COSMO_DEBUG=1 for the traceback",
        FAILED,
    )


def _of_system(error: OSError) -> tuple[str, str, int]:
    what, hint = _SYSTEM.get(error.errno or 0, (error.strerror or str(error), "check the path and run again"))
    where = f" ({error.filename})" if error.filename else ""
    if isinstance(error, NoRoomError):
        from stages.capacity.machine import existing
        from stages.capacity.units import size

        free = shutil.disk_usage(existing(Path(error.filename))).free
        where += f": {size(error.needed)} were to be written, {size(free)} are free"
    return f"{what}{where}", hint, UNAVAILABLE if error.errno in _PLACE else FAILED
