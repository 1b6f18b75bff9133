"""Real processes that start with what this one has imported: half a second instead of ten for torch and transformers.

Where a test is about a process that dies, or about the command's exit code and its lines, the process matters and the
imports don't. A test of how the command starts (`tests/cli`) uses `tests.support.cli`.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _context() -> Any:
    import torch

    # Autograd's threads for a GPU don't survive a fork. Without a GPU it has none.
    return multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")


def exit_code(work: Callable[..., None], *args: Any, **named: Any) -> int:
    """Call `work` in a child process; how that ended: 0, 1 after an exception, or minus the number of a signal."""
    child = _context().Process(target=work, args=args, kwargs=named)
    child.start()
    child.join()
    return int(child.exitcode)


def cosmo_forked(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`cosmo ARGS` to its end, as `tests.support.cli.cosmo` runs it."""
    words = [str(a) for a in args]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        sys.stdout.flush()
        sys.stderr.flush()
        code = exit_code(_command, words, str(cwd), out.fileno(), err.fileno())
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return subprocess.CompletedProcess(words, code, *texts)


def _command(words: list[str], cwd: str, out: int, err: int) -> None:
    os.dup2(out, 1)
    os.dup2(err, 2)
    # pytest's own objects would keep what is printed to themselves.
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    os.chdir(cwd)
    os.environ["COLUMNS"] = "120"
    sys.argv = ["cosmo", *words]
    from cosmo_cli.app import entry

    entry()
