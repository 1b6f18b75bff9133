"""Running the real command in a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
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
        timeout=300,
        **options,
    )


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
