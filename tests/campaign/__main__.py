"""`python -m tests.campaign`: kills, full disks, bad servers, strangers' folders and damaged input, by the hundred.

Each command runs in a fork of this process, which has imported everything: tenths of a second for ten. What counts is
that the same rows and weights come out afterwards, that nothing is left, run, asked or written elsewhere, and that
whatever is wrong is one line with a hint and an exit code of ours. A seed is the same campaign again, and one line sums
it up.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.campaign import damage, disks, kills, processes, servers, strangers, surroundings, views
from tests.campaign.chain import Faults, commands

KINDS = {
    "kills": (kills.kills, 300, "kills", "died in the midst"),
    "disks": (disks.disks, 60, "full disks", "met"),
    "servers": (servers.servers, 40, "bad servers", "complained of"),
    "surroundings": (surroundings.surroundings, 100, "odd surroundings", "ended with an error"),
    "models": (strangers.models, 60, "strangers' models", "taken"),
    "runs": (strangers.runs, 50, "strangers' runs", "taken"),
    "ranks": (processes.ranks, 10, "launchers killed", "died in the midst"),
    "views": (views.views, 200, "damaged runs in a browser", "refused"),
    "confirmed": (processes.confirmed, 200, "damaged inputs in processes of their own", "taken"),
    "damaged": (damage.damaged, 10_000, "damaged inputs", "taken"),
}
"""(what tries so many, how many, what they are called, what is counted of them) by name."""


def main() -> int:
    """0 where nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=list(KINDS), default=list(KINDS))
    for name, (_, count, called, _) in KINDS.items():
        parser.add_argument(f"--{name}", type=int, default=count, help=called)
    options = parser.parse_args()
    # Forks share what is set up here, and threads do not survive them.
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COSMO_DEBUG": ""}
    began, faults, tried = time.monotonic(), Faults([]), []
    with tempfile.TemporaryDirectory(prefix="campaign-") as place:
        os.environ["COSMO_CACHE"] = str(Path(place) / "cache")
        _preload()
        reference = Path(place) / "reference"
        reference.mkdir()
        made = commands(reference)
        for name in options.only:
            work, _, called, counted = KINDS[name]
            count = getattr(options, name)
            found = work(reference, made, count, random.Random(options.seed), faults)
            tried.append(f"{count} {called} ({found} {counted})")
            so_far = f"{len(faults.found)} faults so far, {time.monotonic() - began:.0f} s"
            print(f"{tried[-1]}; {so_far}", file=sys.stderr, flush=True)
    for fault in faults.found:
        print(fault)
    seconds = time.monotonic() - began
    print(f"campaign, seed {options.seed}: {', '.join(tried)}, {len(faults.found)} faults, {seconds:.0f} s")
    return 1 if faults.found else 0


def _preload() -> None:
    import importlib

    import torch

    from tests.support.preloaded import PRELOADED

    torch.set_num_threads(1)
    for name in (*PRELOADED, "cosmo_cli.recipe.run", "stages.train.rl.start", "stages.engines.transformers.engine"):
        importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main())
