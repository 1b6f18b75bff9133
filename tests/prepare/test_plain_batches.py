"""Questions and answers made column by column are the rows that drafts make one by one, odd ones among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core.config import build
from stages.core.runner import Options, run_stage
from stages.prepare.datasets import parquet
from stages.prepare.reading import plain_batches
from stages.prepare.stage import STAGE
from tests.prepare.made import image

PROMPTS: list[str | None] = [
    *("What is it?", "Größe 五 \u2028?", 'a "quoted" \\ line\nof two', " spaced ", "<image>\nWhat?", "", " \n", None),
    *("no mark <image> here", "What is 3 + 5?", "What is 3 - 5?", "tab\tand \x01"),
]
ANSWERS = [None, "5", "1,234", "NaN", "", "Blue", "\\frac{1}{2}", "x" * 40]


def table(path: Path, images: bool, texts: dict[str, list[str | None]]) -> Path:
    rows = [
        {
            "prompt": f"{prompt} row {n}" if prompt and prompt.strip() and n >= len(PROMPTS) else prompt,
            "answer": ANSWERS[n % len(ANSWERS)],
            **{name: values[n % len(values)] for name, values in texts.items()},
            **({"image": _pictures()[n % 3]} if images else {}),
        }
        for n, prompt in enumerate(PROMPTS * 6)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=17)
    return path


def _pictures() -> list[Any]:
    red = image("red", (16, 16))
    return [None, {"bytes": red, "path": "a/b.png"}, {"bytes": red[:30], "path": None}]


def made(source: Path, runs: Path, **options: Any) -> tuple[str, dict[str, bytes]]:
    asked = {"name": "parquet", "path": str(source), **options}
    config = build(STAGE.config, {"sources": [asked], "shard_rows": 9, "near_duplicates": 0.5}, "prepare")
    folder = run_stage(STAGE, config, [], options=Options(runs=runs)).path
    found = {f"{kind}/{p.name}": p.read_bytes() for kind in ("shards", "rejected") for p in (folder / kind).iterdir()}
    return folder.name, found


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize(
    "texts",
    [
        {},
        {"label": ["math", None, "", "general"], "split": ["test", None, "", "dev"], "family": [None, "figstep"]},
        {"source": ["a:b", None, ""], "category": ["", "c"], "task": [None, "t"], "risk": ["image", None]},
    ],
)
def test_the_files_are_those_of_drafts(
    images: bool, texts: dict[str, list[str | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = table(tmp_path / "t.parquet", images, texts)
    seen: list[int] = []
    records = plain_batches.PlainBatches.records

    def counted(*given: Any) -> Any:
        seen.append(1)
        return records(*given)

    monkeypatch.setattr(plain_batches.PlainBatches, "records", counted)
    by_columns = made(source, tmp_path / "columns", flags=["z", "a"], answer_kind="" if texts else "text")
    assert seen, "the table is a plain one"
    monkeypatch.setattr(plain_batches, "are_plain", lambda *given: False)
    parquet._block.cache_clear()
    assert by_columns == made(source, tmp_path / "drafts", flags=["z", "a"], answer_kind="" if texts else "text")
    assert len(by_columns[1]) > 3


def test_a_table_with_more_or_other_columns_is_none() -> None:
    text = pa.schema({"q": pa.large_string(), "a": pa.string(), "n": pa.int64()})
    assert plain_batches.are_plain({"prompt": "q", "answer": "a"}, text)
    assert not plain_batches.are_plain({"prompt": "q", "answer": "n"}, text)
    assert not plain_batches.are_plain({"prompt": "q", "choices": "a"}, text)
    assert not plain_batches.are_plain({"messages": "q"}, text)
