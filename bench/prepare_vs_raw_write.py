"""Rows a second of `cosmo prepare` against pyarrow writing the same table.

    python bench/prepare_vs_raw_write.py

The source is a Parquet file of ROWS questions, each with its own JPEG of noise (KINDS: small 224 x 224, medium
448 x 336). Ours is `run_stage(prepare)` in this process from that file to a committed run folder, nothing remembered of
an earlier run (an empty COSMO_CACHE a round). The peer is `pyarrow.parquet.write_table` of the table that came out,
read into memory beforehand, with the same schema, compression and row group size. So the peer neither reads nor checks
nor syncs; `peer_synced` also does an fsync.

What else ours does, taken away one by one from the side (`without_...`), for a sight of what each costs:

- `without_decoding`: images are kept without being decoded (which finds cut, broken and over-large files);
- `without_near`: also no near-duplicate search (`near_duplicates = 0`), only exact duplicates;
- the rest: reading the source twice (to choose, to write), hashing source and images, typed rows, digests of shards,
  fsync, receipts.

Sides take turns; figures are medians; MiB/s are of the table that is written.
"""

from __future__ import annotations

import io
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
ROWS, ROUNDS = 1000, 5
KINDS = {"small": (224, 224), "medium": (448, 336)}


def write_source(path: Path, size: tuple[int, int]) -> None:
    """A foreign table: prompt, image, answer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tests.train.made import WORDS

    rng = random.Random(0)
    prompts = [" ".join([*rng.choices(WORDS, k=12), str(n)]) for n in range(ROWS)]
    images = [{"bytes": _jpeg(n, size), "path": f"{n}.jpg"} for n in range(ROWS)]
    pq.write_table(pa.table({"prompt": prompts, "image": images, "answer": [str(n) for n in range(ROWS)]}), path)


def _jpeg(seed: int, size: tuple[int, int]) -> bytes:
    """An image of coarse noise: about as many bytes as a photograph of its size."""
    from PIL import Image

    rng = random.Random(seed)
    coarse = Image.frombytes("RGB", (size[0] // 8, size[1] // 8), rng.randbytes(size[0] // 8 * (size[1] // 8) * 3))
    out = io.BytesIO()
    coarse.resize(size, Image.Resampling.BILINEAR).save(out, "JPEG", quality=90)
    return out.getvalue()


@contextmanager
def undecoded() -> Iterator[None]:
    """`prepare` as if any bytes were a good image."""
    from schemas.values import Image
    from stages.prepare import row_maker as rows

    kept = rows.check_image
    rows.check_image = lambda data, name, limits: Image(data, name)
    try:
        yield
    finally:
        rows.check_image = kept


@dataclass
class Bench:
    """One source and what was made of it."""

    source: Path
    folder: Path
    names: Iterator[int] = field(default_factory=count)

    def prepared(self, **settings: Any) -> float:
        """Seconds of one run from nothing."""
        from stages.core.runner import Options, run_stage
        from stages.prepare.config import PrepareConfig
        from stages.prepare.datasets import parquet
        from stages.prepare.reading import files
        from stages.prepare.stage import STAGE

        place = self.folder / f"run-{next(self.names)}"
        os.environ["COSMO_CACHE"] = str(place / "cache")
        files._known.clear()
        parquet._group.cache_clear()
        config = PrepareConfig(sources=[f"parquet:{self.source}"], **settings)
        begun = time.perf_counter()
        result = run_stage(STAGE, config, [], options=Options(runs=place / "runs"))
        taken = time.perf_counter() - begun
        assert (result.state, result.rows) == ("done", ROWS), result
        self.made = result.path
        return taken

    def unchecked(self, **settings: Any) -> float:
        """The same without decoding."""
        with undecoded():
            return self.prepared(**settings)

    def raw(self, synced: bool) -> Callable[[], float]:
        """pyarrow writes the rows of the last run, one file a shard, as our writer is set up."""
        import pyarrow.parquet as pq

        from schemas.arrow import arrow_schema
        from schemas.tables import PROMPTS
        from stages.core.runs.shards import _is_image, _leaves

        leaves = [leaf for f in arrow_schema(PROMPTS) for leaf in _leaves(f, f.name)]
        options: dict[str, Any] = {
            "compression": {leaf: "NONE" if _is_image(leaf) else "ZSTD" for leaf in leaves},
            "use_dictionary": [leaf for leaf in leaves if not _is_image(leaf)],
        }
        tables = [pq.read_table(p) for p in sorted((self.made / "shards").iterdir())]
        groups = [pq.ParquetFile(p).metadata.row_group(0).num_rows for p in sorted((self.made / "shards").iterdir())]

        def once() -> float:
            place = self.folder / f"raw-{next(self.names)}"
            place.mkdir()
            begun = time.perf_counter()
            for number, (table, rows) in enumerate(zip(tables, groups, strict=True)):
                path = place / f"{number:05d}.parquet"
                pq.write_table(table, path, row_group_size=rows, **options)
                if synced:
                    with open(path, "rb") as handle:
                        os.fsync(handle.fileno())
            return time.perf_counter() - begun

        return once


def compare(size: tuple[int, int], folder: Path) -> dict[str, float]:
    """Seconds of each side and the ratios of speeds."""
    from bench.timing import in_turn, medians, ratio

    folder.mkdir()
    write_source(folder / "source.parquet", size)
    bench = Bench(folder / "source.parquet", folder)
    bench.prepared()
    mib = sum(p.stat().st_size for p in (bench.made / "shards").iterdir()) / (1 << 20)
    found = in_turn(
        {
            "ours": bench.prepared,
            "peer": bench.raw(False),
            "peer_synced": bench.raw(True),
            "without_decoding": bench.unchecked,
            "without_near": lambda: bench.unchecked(near_duplicates=0.0),
        },
        ROUNDS,
    )
    figures = medians(found, 4)
    speeds = {"ours_mib_s": round(mib / figures["ours"], 1), "peer_mib_s": round(mib / figures["peer"], 1)}
    ratios = {
        "ratio": ratio(found, "peer", "ours"),
        "ratio_synced": ratio(found, "peer_synced", "ours"),
        "ratio_without": ratio(found, "peer_synced", "without_near"),
    }
    return {"rows": ROWS, "mib": round(mib, 1), **figures, **speeds, **ratios}


def main() -> dict[str, Any]:
    """Both sizes; the headline is the medium one. Prints the table."""
    from bench.timing import table

    cache = os.environ.get("COSMO_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        found = {name: compare(size, Path(folder) / name) for name, size in KINDS.items()}
    os.environ.pop("COSMO_CACHE") if cache is None else os.environ.update(COSMO_CACHE=cache)
    print("seconds a run:")
    print(table([("images", *found["small"].keys()), *((name, *row.values()) for name, row in found.items())]))
    return {**found["medium"], "small": found["small"]}


if __name__ == "__main__":
    print(json.dumps(main()))
