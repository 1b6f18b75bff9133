"""Disks that fill: after some file operation, by the size a file may have, and a small disk of its own; then space."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.campaign.chain import Faults, call, contents, fresh
from tests.campaign.kills import compare, forget

WRITING = ("fsync", "link", "mkdir", "open", "rename", "replace")
"""What a full disk refuses; what frees space goes on working."""


def disks(reference: Path, commands: dict[str, list[str]], count: int, rng: random.Random, faults: Faults) -> int:
    """Let the disk fill under `count` commands, then run each again with space; how many of them met it."""
    expected = contents(reference / "runs")
    met = 0
    for number in range(count):
        name = rng.choice(sorted(commands))
        folder = fresh(reference, "full")
        forget(folder, name, commands[name])
        way = ("operation", "file size", "disk")[number % 3]
        what = f"full {number} of {name} ({way})"
        if way == "disk":
            with _small_disk(folder / "runs", rng.randrange(8, 400) << 10) as grow:
                met += _twice(what, commands[name], folder, None, grow, faults)
        else:
            before = (
                _full_after(rng.randrange(200)) if way == "operation" else _files_below(rng.randrange(1, 300) << 10)
            )
            met += _twice(what, commands[name], folder, before, lambda: None, faults)
        compare(what, folder, expected, faults)
    return met


def _twice(
    what: str,
    command: list[str],
    folder: Path,
    before: Callable[[], object] | None,
    then: Callable[[], object],
    faults: Faults,
) -> bool:
    first = call(command, folder, before)
    faults.look(f"{what}, first", first, codes=(0, 4))
    then()
    faults.look(f"{what}, again", call(command, folder), codes=(0,))
    return first.code != 0


def _full_after(number: int) -> Callable[[], None]:
    """In the fork: from the n-th writing operation on there is no space left."""

    def before() -> None:
        left, lock = [number], threading.Lock()

        def counted(plain: Callable[..., Any], name: str) -> Callable[..., Any]:
            def operation(*given: Any, **named: Any) -> Any:
                reads = name == "open" and not (given[1] if len(given) > 1 else named.get("flags", 0)) & os.O_CREAT
                with lock:
                    left[0] -= not reads
                    if left[0] < 0 and not reads:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(given[0]))
                return plain(*given, **named)

            return operation

        for name in WRITING:
            setattr(os, name, counted(getattr(os, name), name))

    return before


def _files_below(size: int) -> Callable[[], None]:
    """In the fork: no file may grow beyond so many bytes (`ulimit -f`), in whatever language it is written."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@contextmanager
def _small_disk(runs: Path, size: int) -> Iterator[Callable[[], object]]:
    """A disk of its own below the run folders with so many bytes free, where one may be mounted; makes it large."""
    kept = runs.with_name("kept")
    runs.mkdir(exist_ok=True)
    runs.rename(kept)
    runs.mkdir()
    mounted = _mount(runs, "size=1g", "-t", "tmpfs", "tmpfs")
    try:
        shutil.copytree(kept, runs, symlinks=True, dirs_exist_ok=True)
        used = os.statvfs(runs)
        if mounted:
            _mount(runs, f"remount,size={(used.f_blocks - used.f_bfree) * used.f_frsize + size}")
        yield lambda: _mount(runs, "remount,size=1g") if mounted else None
    finally:
        # Rows are compared behind this block: back to an ordinary folder with them.
        shutil.rmtree(kept)
        shutil.copytree(runs, kept, symlinks=True)
        if mounted:
            subprocess.run(["umount", str(runs)], check=True)
        shutil.rmtree(runs)
        kept.rename(runs)


def _mount(place: Path, how: str, *what: str) -> bool:
    """Whether that is allowed here."""
    return subprocess.run(["mount", "-o", how, *what, str(place)], capture_output=True).returncode == 0
