"""Files that stand for more than memory holds are refused before they are decoded, and what people write is not."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.tables import PROMPTS
from stages.core.errors import InputError
from stages.core.runs.shards import open_shard, read_columns, table_name
from stages.core.storage.unpacked import FLOOR_BYTES, MOST_TIMES, check_parquet, checked_batches
from tests.support import bombs


def _checked(path: Path) -> None:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        check_parquet(file, path)


@pytest.mark.parametrize("kind", bombs.PARQUET)
def test_a_small_file_that_stands_for_much_is_refused_undecoded(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    bombs.PARQUET[kind](path)
    assert path.stat().st_size < 25_000
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        for read in (_checked, table_name, lambda p: read_columns(p, ["prompt"])):
            with pytest.raises(InputError, match=r"bomb\.parquet has [0-9,]+ bytes and stands for [0-9,]+") as refused:
                read(path)
            assert "256 MiB, or 1000 times its size" in refused.value.message
            assert refused.value.hint
    finally:
        pa.set_memory_pool(usual)
    # Values written by their prefix can only be measured by decoding them, up to the floor at a time.
    assert (pool.max_memory() or 0) < (3 * FLOOR_BYTES if kind == "prefixes" else 64 << 20)


def test_a_shard_of_a_stranger_is_refused_by_its_name(tmp_path: Path) -> None:
    bombs.inside_lists(tmp_path / "00000.parquet")
    with pytest.raises(InputError, match=r"00000\.parquet has .* and stands for"):
        open_shard(tmp_path / "00000.parquet", PROMPTS)


@pytest.mark.parametrize(
    "column",
    [
        # As much as a small file may stand for, from one text.
        pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), pa.array([bombs.TEXT])),
        # One long text among many short ones: as long as that one, they would be 100 GB.
        pa.array([bombs.TEXT[:500_000], *(f"word {n % 9}" for n in range(200_000))]),
        # The dictionary is full after some texts, and the rest stand in the pages.
        pa.array([f"{n} " + bombs.TEXT[: 3 * n] for n in range(3000)]),
        pa.nulls(1_000_000, pa.string()),
        pa.array([[["a", "b"] * 9, []], None, []] * 1000),
        pa.array([[("k", "v" * 99)]] * 1000, pa.map_(pa.string(), pa.string())),
        pa.array([], pa.string()),
    ],
    ids=["200 MB of one text", "a long one", "a full dictionary", "nothing", "lists", "a map", "no row"],
)
def test_what_people_write_is_read(column: pa.Array, tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": column}), tmp_path / "t.parquet", compression="zstd")
    _checked(tmp_path / "t.parquet")
    assert read_columns(tmp_path / "t.parquet", ["prompt"]).num_rows == len(column)


def test_a_larger_file_may_stand_for_more(tmp_path: Path) -> None:
    """A long system prompt before each of many questions: 400 MB in a megabyte."""
    questions = pa.array([f"{n * 7919 % 100_003} and {n}" for n in range(100_000)])
    system = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array([bombs.TEXT[:4000]]))
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"prompt": questions, "system": system}), path, compression="zstd")
    assert FLOOR_BYTES < 100_000 * 4000
    assert 100_000 * 4000 / path.stat().st_size < MOST_TIMES
    _checked(path)


def test_a_file_that_has_changed_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"prompt": ["a"]}), path)
    _checked(path)
    bombs.dictionary(path)
    with pytest.raises(InputError, match="stands for"):
        _checked(path)


def test_an_arrow_file_is_refused_batch_by_batch(tmp_path: Path) -> None:
    bombs.arrow(tmp_path / "t.arrow")
    with pa.ipc.open_file(tmp_path / "t.arrow") as file, pytest.raises(InputError, match=r"t\.arrow has .* stands for"):
        list(checked_batches([file.get_batch(0)], tmp_path / "t.arrow"))
