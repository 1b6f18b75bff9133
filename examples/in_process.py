"""`cosmo` commands in this process, for examples that call many of them."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

from cosmo_cli.app import main as cosmo_main


def supervised_start(runs: Path, recipe: Path, prompts: str, seed: int, steps: int) -> str:
    """The policy that a recipe's world is first imitated with, from a tiny model."""
    return cosmo(
        runs, "train", prompts, "--config", recipe, "--objective", "sft", "--policy", "tiny:qwen2_5_vl", "--seed", seed,
        "--steps", steps, "--set", "select.split=train",
    )  # fmt: skip


def cosmo(runs: Path, *args: object) -> str:
    """`cosmo ARGS` in this process, so that libraries are imported once; what it printed. Ends with it on a failure."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = cosmo_main([*map(str, args), "--runs", str(runs)])
    if code:
        sys.exit(code)
    return printed.getvalue().strip()
