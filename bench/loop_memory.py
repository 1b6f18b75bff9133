"""Resident memory of `cosmo run` over the turns of a recipe: does it stay flat?

The demo's recipe with one RL phase of some turns, in a process of its own with the allocator set as `cosmo` sets it.
The resident size is read after each turn, once free memory was given back. The first two turns are left out: they load
the model and fill what is kept warm. For comparison the same in another process that never gives memory back.

    python bench/loop_memory.py --turns 10
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

POLICY, TURNS, SFT_STEPS, WARM = "tiny:qwen2_5_vl", 10, 20, 2


def resident_mib() -> float:
    """What this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(turns: int, give_back: bool) -> list[float]:
    """MiB after each training step of one run in this process; the supervised one is the first."""
    from cosmo_cli.process import set_up_process

    set_up_process()
    from bench.loop_overhead import recipe
    from cosmo_cli.recipe import run as loop
    from cosmo_cli.terminal.output import Output

    found: list[float] = []
    plain = loop.give_back_memory

    def counted() -> None:
        if give_back:
            plain()
        found.append(round(resident_mib(), 1))

    loop.give_back_memory = counted
    with tempfile.TemporaryDirectory() as folder:
        loop.run_recipe(recipe(POLICY, turns - 1, SFT_STEPS), Path(folder), Output("bench", quiet=True))
    return found[1:]


def growth(mib: list[float]) -> float:
    """MiB a turn between the first warm turn and the last."""
    return round((mib[-1] - mib[WARM]) / (len(mib) - 1 - WARM), 1)


def main(turns: int = TURNS) -> dict[str, Any]:
    """Resident size at the first warm turn and the last, with and without giving back; prints the table."""
    from bench.timing import in_process, table

    given, kept = (in_process(__file__, "--turns", str(turns), "--one", side) for side in ("given", "kept"))
    head = ("MiB after turn", *range(1, turns + 1), "a turn")
    print(table([head, ("memory given back", *given, growth(given)), ("never given back", *kept, growth(kept))]))
    return {
        "turns": turns,
        "given_mib": given,
        "kept_mib": kept,
        "warm_mib": given[WARM],
        "last_mib": given[-1],
        "ratio": round(given[-1] / given[WARM], 3),
        "growth_mib": growth(given),
        "growth_kept_mib": growth(kept),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=TURNS, help=f"RL turns, at least {WARM + 2}")
    parser.add_argument("--one", choices=("given", "kept"), default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turns < WARM + 2:
        parser.error(f"--turns {options.turns}: the first {WARM} are left out, so there must be at least {WARM + 2}")
    print(json.dumps(measure(options.turns, options.one == "given") if options.one else main(options.turns)))
