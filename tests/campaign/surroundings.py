"""Odd surroundings: closed and strange streams, no home, a small terminal, few open files, another user; then usual.

Everything is done to a fork of this process before the command begins, as a daemon, a cron job or a container would.
"""

from __future__ import annotations

import os
import random
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.campaign.chain import CLOSED_PIPE, Faults, call, contents, fresh
from tests.campaign.kills import compare, forget

NOBODY = 65534


def surroundings(
    reference: Path, commands: dict[str, list[str]], count: int, rng: random.Random, faults: Faults
) -> int:
    """Run `count` commands in odd surroundings, then as usual; how many of them ended with an error."""
    expected = contents(reference / "runs")
    failed = 0
    for number in range(count):
        name = rng.choice(sorted(commands))
        folder = fresh(reference, "odd")
        if rng.random() < 0.7:
            forget(folder, name, commands[name])
        way = rng.choice(sorted(WAYS))
        what = f"surroundings {number} of {name} ({way})"
        first = call(commands[name], folder, WAYS[way])
        failed += first.code != 0
        # The reader of a pipe that closes early ends a command, as it ends any other program.
        faults.look(f"{what}, first", first, codes=(0, 2, 3, 4, CLOSED_PIPE), quiet=way in SILENT)
        faults.look(f"{what}, again", call(commands[name], folder), codes=(0,))
        compare(what, folder, expected, faults)
    return failed


def _closed(*numbers: int) -> Callable[[], None]:
    """Python has None where a stream is closed."""

    def before() -> None:
        for number in numbers:
            # The last name of a stream of the campaign's closes it, too.
            setattr(sys, ("stdin", "stdout", "stderr")[number], None)
            with suppress(OSError):
                os.close(number)

    return before


def _no_reader() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    _new_stdout(writing)


def _encoded(encoding: str) -> Callable[[], None]:
    def before() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding=encoding, errors="strict")  # type: ignore[union-attr]

    return before


def _told(**variables: str | None) -> Callable[[], None]:
    """These variables of the environment in place of the usual ones; None: not at all."""

    def before() -> None:
        for name, value in variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    return before


def _full() -> None:
    _new_stdout(os.open("/dev/full", os.O_WRONLY))


def _new_stdout(descriptor: int) -> None:
    """In the place of the file that it was: whether it can be sought is asked once, when a stream is made."""
    os.dup2(descriptor, 1)
    sys.stdout = os.fdopen(1, "w", closefd=False)


def _nobody() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


WAYS: dict[str, Callable[[], object]] = {
    "no stdin": _closed(0),
    "no stdout": _closed(1),
    "no stderr": _closed(2),
    "no streams": _closed(0, 1, 2),
    "no reader": _no_reader,
    "a full stdout": _full,
    "ascii": _encoded("ascii"),
    "latin-1": _encoded("latin-1"),
    "no home": _told(HOME=None, COSMO_CACHE=None, XDG_CACHE_HOME=None),
    "a home that is no folder": _told(HOME="/dev/null", COSMO_CACHE=None, XDG_CACHE_HOME=None),
    "a cache that is no folder": _told(COSMO_CACHE="/dev/null"),
    "no temporary folder": _told(TMPDIR="/no/such/folder"),
    "plain C": _told(LC_ALL="C", LANG=None, PYTHONUTF8=None),
    "a dumb terminal": _told(TERM="dumb", COLUMNS="1", LINES="1"),
    "no variables": lambda: os.environ.clear(),
    "few open files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)),
    "no right to write": lambda: os.umask(0o777),
    "another user": _nobody,
}
SILENT = {"no stderr", "no streams"}
"""Where a reason can't be read."""
