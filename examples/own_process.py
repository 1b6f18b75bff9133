"""`cosmo` commands in processes of their own, for examples that run several at a time or leave a log of each."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

COSMO = [sys.executable, "-m", "cosmo_cli"]


def cosmo(runs: Path, *args: object, threads: int | str, log: Path | None = None) -> str:
    """`cosmo ARGS` with so many threads; what it printed. What it says goes to the end of the log, else to the person.

    CalledProcessError on a failure, with the log as its output.
    """
    command = [*COSMO, *map(str, args), "--runs", str(runs)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with open(log, "a", encoding="utf-8") if log else nullcontext() as said:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=said, env=environment, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, output=log)
    return done.stdout.strip()
