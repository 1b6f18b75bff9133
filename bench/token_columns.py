"""What token ids and log-probs cost on their way through `cosmo rollout` and `cosmo score`: CPU seconds and memory.

    python bench/token_columns.py [--tokens 16 1024 4096] [--groups 500]

Whole commands in processes of their own, with one worker: rollout of so many prompts, 8 completions each, by an engine
that draws random ids (as Python lists, which is how engines have them), and score of what it made, by cheap rules.
Texts are a few words whatever the length, so that what differs between lengths is ids and log-probs. Beside them stands
the smallest command of the same verb (one prompt): Python's start and imports, which no column can save.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SAMPLES = 8
ENGINE = """
import os
import numpy as np
from schemas.rollouts import FinishReason
from stages.engines.base import EnginePlugin, SampledCompletion
from stages.engines.fake import FakeEngine

TOKENS = int(os.environ["BENCH_TOKENS"])


class Long(FakeEngine):
    def decode(self, token_ids):
        return "<think> so it is . </think> 7"

    def sample(self, requests, sampling):
        rng = np.random.default_rng(0)
        for request in requests:
            yield request.id, [
                SampledCompletion(
                    rng.integers(0, 150_000, TOKENS).tolist(),
                    np.log(rng.random(TOKENS, dtype=np.float32)).tolist(),
                    FinishReason.STOP,
                )
                for _ in range(request.n)
            ]


class LongPlugin(EnginePlugin):
    version = 1
    needs_policy = False

    def open(self, ref, settings, resources):
        engine = Long()
        engine.max_positions = 1 << 20
        return engine


PLUGIN = LongPlugin()
"""


def measured(folder: Path, tokens: int, *arguments: object) -> tuple[Path, float, float]:
    """(run folder, CPU seconds, peak MiB) of one command, which must succeed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "BENCH_TOKENS": str(tokens)}
    with open(folder / "stderr.txt", "w+", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "cosmo_cli", *map(str, arguments)], cwd=folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
        assert process.stdout is not None
        out = process.stdout.read()
        # What this one child used, and not all of them so far.
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        stderr.seek(0)
        assert process.returncode == 0, stderr.read()
    return folder / out.strip(), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def chain(folder: Path, groups: int, tokens: int) -> dict[str, tuple[float, float]]:
    """CPU seconds and peak MiB of rollout and score over so many groups."""
    folder.mkdir(parents=True)
    (folder / "long.py").write_text(ENGINE, encoding="utf-8")
    lines = (json.dumps({"prompt": f"what is {n} + 7 ?", "answer": "7", "label": "general"}) for n in range(groups))
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    prompts, _, _ = measured(folder, tokens, "prepare", "prompts.jsonl", "--set", "near_duplicates=0")
    rollout, *first = measured(
        folder, tokens, "rollout", prompts, "--engine", "./long.py:PLUGIN", "--samples", SAMPLES, "--set",
        f"max_new_tokens={tokens}", "--set", "shard_groups=256",
    )  # fmt: skip
    _, *second = measured(folder, tokens, "score", rollout, "--set", "workers=1", "--set", "also=[]")
    return {"rollout": (first[0], first[1]), "score": (second[0], second[1])}


def main(tokens: Sequence[int] = (16, 1024, 4096), groups: int = 500) -> dict[str, Any]:
    """Every length measured; prints the table. The ratio is the peak of score at the longest by that at the second."""
    from bench.timing import table

    with tempfile.TemporaryDirectory() as name:
        found = {f"{SAMPLES} x 16": chain(Path(name) / "start", 1, 16)}
        for length in tokens:
            found[f"{groups * SAMPLES:,} x {length:,}"] = chain(Path(name) / str(length), groups, length)
    rows = [(size, *(f"{n:.2f}" for verb in ("rollout", "score") for n in of[verb])) for size, of in found.items()]
    print(table([("completions x tokens", "rollout CPU s", "MiB", "score CPU s", "MiB"), *rows]))
    *_, short, long = found.values()
    by_length = {"short_mib": short["score"][1], "long_mib": long["score"][1]}
    return {**by_length, "ratio": by_length["long_mib"] / by_length["short_mib"], "measured": found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 1024, 4096])
    parser.add_argument("--groups", type=int, default=500)
    given = parser.parse_args()
    main(given.tokens, given.groups)
