"""`python -m tests.campaign`: kills and damaged input by the hundred, seeded, with one line that sums it up.

Each command runs in a fork of this process, which has imported everything: tenths of a second for ten. What counts is
that the same rows and weights come out after a kill, that nothing is left or written elsewhere, and that whatever is
wrong with input is one line with a hint and an exit code of ours.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.campaign.chain import Faults, commands
from tests.campaign.damage import damaged
from tests.campaign.kills import kills


def main() -> int:
    """0 where nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--damaged", type=int, default=10_000)
    options = parser.parse_args()
    # Forks share what is set up here, and threads do not survive them.
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COSMO_DEBUG": ""}
    began, faults = time.monotonic(), Faults([])
    with tempfile.TemporaryDirectory(prefix="campaign-") as place:
        os.environ["COSMO_CACHE"] = str(Path(place) / "cache")
        _preload()
        reference = Path(place) / "reference"
        reference.mkdir()
        made = commands(reference)
        died = kills(reference, made, options.kills, random.Random(options.seed), faults)
        taken = damaged(reference, made, options.damaged, random.Random(options.seed), faults)
    for fault in faults.found:
        print(fault)
    tried = f"{options.kills} kills ({died} died in the midst), {options.damaged} damaged inputs ({taken} taken)"
    seconds = time.monotonic() - began
    print(f"campaign, seed {options.seed}: {tried}, {len(faults.found)} faults, {seconds:.0f} s")
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
