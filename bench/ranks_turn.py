"""A turn of `cosmo run` whose training two processes do: those that stay beside those that are started for each turn.

The demo's recipe with one RL phase of some turns, on two ranks of one CPU. Both sides sample, score, train and save the
same; the peer lets its ranks go after each training, as several `cosmo train --nproc 2` would, and then waits for the
receipt. The first turn is left out, which loads and starts on both sides.

    python bench/ranks_turn.py --turns 6
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

POLICY, TURNS, SFT_STEPS, RANKS = "tiny:qwen2_5_vl", 6, 20, 2


def measure(turns: int, stay: bool) -> list[float]:
    """Seconds of each turn but the first, of one run in this process."""
    from cosmo_cli.process import set_up_process

    set_up_process()
    from bench.loop_overhead import recipe
    from cosmo_cli.recipe import run as loop
    from cosmo_cli.terminal.output import Output
    from stages.train import processes

    ended: list[float] = []
    plain, do = loop.give_back_memory, processes.do

    def noted() -> None:
        plain()
        ended.append(time.monotonic())

    def alone(config: Any, command: Any, run: str, job: dict[str, Any], resources: Any) -> None:
        do(config, command, run, {**job, "hand_over": False}, resources)
        processes.let_go(resources)

    loop.give_back_memory = noted
    if not stay:
        processes.do = alone
    with tempfile.TemporaryDirectory() as folder:
        how = recipe(POLICY, turns - 1, SFT_STEPS, nproc=RANKS)
        loop.run_recipe(how, Path(folder), Output("bench", quiet=True))
    # Of the supervised steps and the first turn: what loads.
    return [round(b - a, 3) for a, b in pairwise(ended[1:])]


def main(turns: int = TURNS) -> dict[str, Any]:
    """Median seconds a turn of both; prints all of them."""
    from bench.timing import in_process, table

    # Two processes on two cores: with more threads each they would wait for each other's.
    os.environ["OMP_NUM_THREADS"] = "1"
    stay, start = (in_process(__file__, "--turns", str(turns), "--one", side) for side in ("stay", "start"))
    head = ("seconds of turn", *range(2, turns + 1), "median")
    ours, peer = statistics.median(stay), statistics.median(start)
    print(table([head, ("ranks stay", *stay, ours), ("ranks are started", *start, peer)]))
    return {"turns": turns, "ours": ours, "peer": peer, "ratio": round(peer / ours, 3), "stay": stay, "start": start}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=TURNS, help="RL turns, at least 3")
    parser.add_argument("--one", choices=("stay", "start"), default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turns < 3:
        parser.error(f"--turns {options.turns}: the first is left out, and a median wants two")
    print(json.dumps(measure(options.turns, options.one == "stay") if options.one else main(options.turns)))
