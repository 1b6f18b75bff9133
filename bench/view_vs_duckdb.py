"""What a page of `cosmo view` takes over 100,000 scored groups, beside DuckDB asked for the same rows.

    python bench/view_vs_duckdb.py [--groups 100000] [--rounds 5]

Ours is a whole answer of the server, HTML and all: the first page of a run that nobody has looked at (`open`), a page
in the middle, one with a filter and an order, and one with a word that is looked for in all texts. The peer is a query
with the same filter, order and rows of the same shards, fetched as Arrow, on as many threads as it likes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.timing import in_turn, medians, ratio, seconds  # noqa: E402

GROUPS, ROUNDS = 100_000, 5
REWARDS = "list_transform(completions, lambda c: c.reward)"
WORD = (
    "where len(list_filter(completions, lambda c: contains(lower(c.text), 'boat'))) > 0 or len(list_filter(messages,"
    " lambda m: len(list_filter(m.content, lambda p: contains(lower(p.text), 'boat'))) > 0)) > 0"
)
FILTER = f"where label = 'safety' and list_avg({REWARDS}) >= 0.3"
SPREAD = f"order by list_max({REWARDS}) - list_min({REWARDS}) desc"
PAGES = {
    "middle": ("?page=2500", "", "", 49_980),
    "filtered": ("?label=safety&least=0.3&order=spread&page=20", FILTER, SPREAD, 380),
    "word": ("?q=boat", WORD, "", 0),
}
"""By name: what is asked of us, and as a condition, an order and an offset."""


def main(groups: int = GROUPS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Seconds of both sides by page, and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        return measure(Path(folder), groups, rounds)


def measure(folder: Path, groups: int, rounds: int) -> dict[str, Any]:
    """Seconds of ours and of DuckDB by page, the median of the rounds, and their ratios."""
    import duckdb

    from tests.view.made import TOKEN, client

    run = many_groups(folder, groups)
    shards = f"{run}/shards/*.parquet"
    address = f"/{TOKEN}/run/{run.name}/"

    def ours(asked: str, fresh: bool = False) -> Any:
        # A reader that has looked at nothing, or one that pages on; what a word is true of is kept between pages.
        reader = client(folder) if fresh else known
        return lambda: reader.get(address + asked).raise_for_status()

    def peer(where: str, order: str, offset: int) -> Any:
        query = f"select * from read_parquet('{shards}') {where} {order} limit 20 offset {offset}"
        return lambda: duckdb.sql(query).arrow()

    known = client(folder)
    known.get(address).raise_for_status()
    found: dict[str, Any] = {}
    opening = in_turn({"ours": _opened(ours), "peer": seconds(peer("", "", 0))}, rounds)
    found["open"] = {**medians(opening), "ratio": ratio(opening, "ours", "peer")}
    for name, (asked, where, order, offset) in PAGES.items():
        if name == "word":
            # Each round another word, for the answer to one is kept.
            sides = {"ours": _words(ours), "peer": seconds(peer(where, order, offset))}
        else:
            sides = {"ours": seconds(ours(asked)), "peer": seconds(peer(where, order, offset))}
        pages = in_turn(sides, rounds)
        found[name] = {**medians(pages), "ratio": ratio(pages, "ours", "peer")}
    return found


def _opened(ours: Any) -> Any:
    """The first page, each time for a reader that has looked at nothing."""
    return lambda: seconds(ours("", fresh=True))()


def _words(ours: Any) -> Any:
    words = iter(["boat", "door", "pears", "bell", "seven", "blue", "red", "prompt", "answer"] * 9)
    return lambda: seconds(ours(f"?q={next(words)}"))()


def many_groups(folder: Path, count: int) -> Path:
    """A scored run of so many groups of up to three completions, in shards of 5,000."""
    from schemas.tables import SCORED
    from stages.core.runner import Options, run_stage
    from tests.eval.made import RowsConfig, RowsStage
    from tests.view.made import varied

    few = varied(500)
    rows = [replace(few[n % len(few)], id=f"{n:016x}") for n in range(count)]
    stage = RowsStage("score", SCORED, rows, per_shard=5_000)
    return run_stage(stage, RowsConfig("", f"{count} groups"), [], options=Options(runs=folder)).path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--groups", type=int, default=GROUPS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    print(json.dumps(main(given.groups, given.rounds)))
