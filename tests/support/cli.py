"""Running the real command in a real process."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
PATIENCE = 3000.0
"""Seconds after which a process that hangs is given up on. Nothing that is merely slow may come near it."""
COSMO = [sys.executable, "-m", "cosmo_cli"]


def environment(**more: str) -> dict[str, str]:
    """The test's environment with the repository importable from anywhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **more}


def cosmo(*args: object, cwd: Path, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """`cosmo ARGS` to its end."""
    options: dict[str, Any] = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    return subprocess.run(
        [*COSMO, *map(str, args)],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        **options,
    )


UNTOLD = {"NO_COLOR": "", "COLORTERM": "", "TERM_PROGRAM": "", "KITTY_WINDOW_ID": "", "TMUX": "", "LINES": "40"}
"""A terminal that says no more than that it has colours, whatever the tests are run in."""


def on_terminal(*args: object, cwd: Path, columns: int, **env: str) -> list[str]:
    """The lines that `cosmo ARGS` shows on a terminal so wide, its bold and dim taken away; it must succeed."""
    ours, theirs = pty.openpty()
    environ = {**environment(COLUMNS=str(columns), TERM="xterm-256color"), **UNTOLD, **env}
    command = [*COSMO, *map(str, args)]
    process = subprocess.Popen(command, stdout=theirs, stdin=subprocess.DEVNULL, env=environ, cwd=cwd)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # how a pseudo-terminal says that the other side is gone
        pass
    os.close(ours)
    assert process.wait() == 0
    return shown.decode().replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "").splitlines()


def ok(*args: object, cwd: Path, **env: str) -> Path:
    """`cosmo ARGS` that must succeed; the run folder it printed."""
    done = cosmo(*args, cwd=cwd, **env)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stdout
    return cwd / lines[0]


def complaint(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """(message, hint) of a failure, having checked that there is nothing else: one line each, no traceback."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout == ""
    said = [n for n, line in enumerate(lines) if line.startswith("cosmo")]
    assert len(said) == 1, done.stderr
    hint = lines[said[0] + 1] if len(lines) > said[0] + 1 else ""
    assert hint.startswith("  hint: "), done.stderr
    return lines[said[0]], hint.removeprefix("  hint: ")
