"""Completions a second of `cosmo score` as whole commands, by 1, 2 and 4 processes that share one run.

    python bench/score_scaling.py

The rollouts are score_vs_trl's MATH mix, COPIES times with other digits each time, in SHARDS shards on disk. n
processes are n commands `cosmo score RUN --worker i/n --set workers=1`, each with one child for algebra, as n machines
would be; the clock is that of the last to end, starting Python included. Numbers of processes take turns.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
COPIES, SHARDS, ROUNDS = 8, 16, 3
PROCESSES = (1, 2, 4)


def rollouts(folder: Path) -> tuple[Path, int]:
    """A run folder, and how many completions are in it."""
    from bench.score_vs_trl import groups_of, math
    from tests.score.made import on_disk

    copies = [groups_of(math(ROOT.parent / "shared" / "data", copy)) for copy in range(COPIES)]
    rows = [dataclasses.replace(g, id=f"{n}-{g.id}") for n, groups in enumerate(copies) for g in groups]
    return on_disk(folder, rows, per_shard=-(-len(rows) // SHARDS)), sum(len(r.completions) for r in rows)


def side(run: Path, folder: Path, processes: int, names: count[int]) -> Callable[[], float]:
    """Seconds of so many commands side by side."""

    def once() -> float:
        place = folder / f"scored-{next(names)}"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "cosmo_cli", "score", str(run), "--runs", str(place), "--set", "workers=1"]
        begun = time.perf_counter()
        started = [
            subprocess.Popen(
                [*command, "--worker", f"{i}/{processes}"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for i in range(processes)
        ]  # fmt: skip
        assert [p.wait() for p in started] == [0] * processes
        return time.perf_counter() - begun

    return once


def main() -> dict[str, Any]:
    """Medians; prints the table."""
    from bench.timing import in_turn, medians, ratio, table

    with tempfile.TemporaryDirectory() as name:
        folder, names = Path(name), count()
        run, completions = rollouts(folder / "rollouts")
        found = in_turn({str(n): side(run, folder, n, names) for n in PROCESSES}, ROUNDS)
    seconds = medians(found, 2)
    rows = [(n, s, round(completions / s), ratio(found, "1", n)) for n, s in seconds.items()]
    print(table([("processes", "seconds", "completions/s", "times one"), *rows]))
    return {"completions": completions, **{f"by_{n}": speed for n, _, speed, _ in rows}, "ratio": rows[-1][-1]}


if __name__ == "__main__":
    print(json.dumps(main()))
