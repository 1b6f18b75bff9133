"""CPU seconds of `cosmo prepare` against what one would write with Hugging Face `datasets` instead.

    python bench/prepare_vs_datasets.py
    python bench/prepare_vs_datasets.py --curve          # 1,000 to 100,000 texts: is the cost linear?

The sources are Parquet files: TEXTS questions, and IMAGES questions that each have a JPEG of noise of 224 x 224. Each
side is a process of its own, from nothing (an empty cache folder a round), and what counts is its CPU seconds, user and
system, all of its threads: a busy machine stretches the clock more than them. The clock is given beside.

- ours: `cosmo prepare parquet:FILE` to a committed run folder. Beside what the peer does it looks for near-duplicates,
  hashes source and shards, and syncs.
- peer: load_dataset("parquet"), cast the column to `Image(decode=False)`, filter away what Pillow can't decode, filter
  away what a sha256 was seen of (words, image, answer), map to messages and a content id, `to_parquet`. Where
  `datasets` is not installed, a plain loop with pyarrow and Pillow that does the same.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
IMAGES, TEXTS, ROUNDS = 4_000, 50_000, 3
SIDE, GROUP = 224, 500
SIDES = ("ours", "datasets", "loop")


def write_source(path: Path, rows: int, images: bool) -> None:
    """A foreign table: prompt, answer, and an image where there are images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(4000)]
    columns: dict[str, Any] = {
        "prompt": [" ".join(rng.choices(words, k=rng.randint(12, 50))) for _ in range(rows)],
        "answer": [str(n) for n in range(rows)],
    }
    if images:
        columns["image"] = [{"bytes": _jpeg(n), "path": f"{n}.jpg"} for n in range(rows)]
    pq.write_table(pa.table(columns), path, row_group_size=GROUP)


def _jpeg(seed: int) -> bytes:
    """An image of coarse noise: about as many bytes as a photograph of its size."""
    from PIL import Image

    small = SIDE // 8
    coarse = Image.frombytes("RGB", (small, small), random.Random(seed).randbytes(small * small * 3))
    out = io.BytesIO()
    coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(out, "JPEG", quality=90)
    return out.getvalue()


def decodes(image: dict[str, Any] | None) -> bool:
    """What a decode filter asks."""
    from PIL import Image

    if image is None:
        return True
    try:
        Image.open(io.BytesIO(image["bytes"])).load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def key_of(row: dict[str, Any]) -> str:
    """What two rows that are the same have in common."""
    image = row.get("image")
    named = [row["prompt"], row["answer"], hashlib.sha256(image["bytes"]).hexdigest() if image else None]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]


def mapped(row: dict[str, Any]) -> dict[str, Any]:
    """The row as a trainer takes it."""
    parts = [{"type": "image", "text": None}] if row.get("image") else []
    turns = [{"role": "user", "content": [*parts, {"type": "text", "text": row["prompt"]}]}]
    images = [row["image"]] if row.get("image") else []
    return {"id": key_of(row), "label": "general", "messages": turns, "images": images, "answer": row["answer"]}


def with_datasets(source: Path, out: Path) -> None:
    """The peer."""
    import datasets

    datasets.disable_progress_bars()
    found = datasets.load_dataset("parquet", data_files=str(source), split="train", cache_dir=str(out.parent / "hf"))
    if "image" in found.column_names:
        found = found.cast_column("image", datasets.Image(decode=False)).filter(decodes, input_columns="image")
    seen: set[str] = set()

    def first(row: dict[str, Any]) -> bool:
        key = key_of(row)
        fresh = key not in seen
        seen.add(key)
        return fresh

    found = found.filter(first, load_from_cache_file=False)
    found.map(mapped, remove_columns=found.column_names).to_parquet(out)


def with_loop(source: Path, out: Path) -> None:
    """The same by hand, batch by batch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    seen: set[str] = set()
    writer = None
    for batch in pq.ParquetFile(source).iter_batches(GROUP):
        rows = []
        for row in batch.to_pylist():
            key = key_of(row)
            if decodes(row.get("image")) and key not in seen:
                seen.add(key)
                rows.append(mapped(row))
        part = pa.Table.from_pylist(rows, schema=writer.schema if writer else None)
        writer = writer or pq.ParquetWriter(out, part.schema)
        writer.write_table(part)
    if writer:
        writer.close()


def with_cosmo(source: Path, out: Path) -> None:
    """Ours, in this process as the command does it."""
    from stages.core.runner import Options, run_stage
    from stages.prepare.config import PrepareConfig
    from stages.prepare.stage import STAGE

    run_stage(STAGE, PrepareConfig(sources=[f"parquet:{source}"]), [], options=Options(runs=out))


def once(side: str, source: Path) -> dict[str, float]:
    """CPU seconds, clock and peak MiB of one side's own process."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        env = {**os.environ, "COSMO_CACHE": f"{folder}/cache", "HF_HOME": f"{folder}/home", "HF_HUB_OFFLINE": "1"}
        begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, __file__, "--side", side, str(source), f"{folder}/out"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise RuntimeError(f"{side}: {done.stderr[-800:]}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"cpu": cpu, "clock": time.perf_counter() - begun, "mib": float(done.stdout.split()[-1])}


def compare(source: Path, rows: int, images: bool, rounds: int) -> dict[str, Any]:
    """Medians of both sides and the ratio of their CPU seconds, round by round."""
    import importlib.util
    import statistics

    write_source(source, rows, images)
    peer = "datasets" if importlib.util.find_spec("datasets") else "loop"
    found: dict[str, list[dict[str, float]]] = {"ours": [], peer: []}
    for _ in range(rounds):
        for side, runs in found.items():
            runs.append(once(side, source))
    result: dict[str, Any] = {"rows": rows, "with": peer}
    for name, side in (("ours", "ours"), ("peer", peer)):
        for figure in ("cpu", "clock", "mib"):
            result[f"{name}_{figure}"] = round(statistics.median(run[figure] for run in found[side]), 2)
    ratios = [theirs["cpu"] / ours["cpu"] for ours, theirs in zip(found["ours"], found[peer], strict=True)]
    return {**result, "ratio": round(statistics.median(ratios), 3)}


def main(rounds: int = ROUNDS, curve: bool = False) -> dict[str, Any]:
    """Both sources; prints the table. Of the curve the cost a row is what to look at."""
    from bench.timing import table

    sizes = {"images": (IMAGES, True), "texts": (TEXTS, False)}
    if curve:
        sizes = {f"texts {n}": (n, False) for n in (1_000, 10_000, 100_000)}
    with tempfile.TemporaryDirectory() as folder:
        found = {
            name: compare(Path(folder) / f"{n}.parquet", rows, images, rounds)
            for n, (name, (rows, images)) in enumerate(sizes.items())
        }
    header = next(iter(found.values()))
    print(table([("source", *header), *((name, *row.values()) for name, row in found.items())]))
    return found


def _one_side(side: str, source: Path, out: Path) -> None:
    {"ours": with_cosmo, "datasets": with_datasets, "loop": with_loop}[side](source, out)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--side", nargs=3, metavar=("SIDE", "SOURCE", "OUT"), help="one side in this process")
    asked = parser.parse_args()
    if asked.side:
        _one_side(asked.side[0], Path(asked.side[1]), Path(asked.side[2]))
    else:
        print(json.dumps(main(asked.rounds, asked.curve)))
