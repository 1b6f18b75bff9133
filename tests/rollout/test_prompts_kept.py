"""Prompts that turns draw from the same shards again and again: kept in memory, they are those on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.prompts import PromptRow
from schemas.tables import PROMPTS
from schemas.values import text_message
from stages.core.resources import Resources
from stages.core.runs.folder import RunFolder
from stages.core.runs.shards import ShardFile
from stages.rollout import prompts
from stages.rollout.prompts import fetch

ROWS = 6
DRAW = [(0, 1, 4, "1-4"), (0, 0, 2, "0-2"), (0, 1, 0, "1-0")]


def write(folder: Path, text: str = "number") -> RunFolder:
    """Two shards of prompts."""
    for shard in range(2):
        file = ShardFile(folder / f"{shard:05d}.parquet", PROMPTS)
        for n in range(ROWS):
            messages = [text_message("user", f"{text} {n}")]
            file.add(PromptRow(id=f"{shard}-{n}", label="general", source="made", task="made", messages=messages))
        file.close()
    return RunFolder.open(folder)


def test_from_the_second_time_on_no_file_is_opened_and_the_rows_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, warm = write(tmp_path), Resources()
    first = fetch([folder], DRAW, warm)
    assert [row.id for _, row in first] == ["1-4", "0-2", "1-0"]
    assert fetch([folder], DRAW, warm) == first
    with monkeypatch.context() as patch:
        patch.setattr(prompts, "rows_at", None)
        patch.setattr(prompts, "read_whole", None)
        assert fetch([folder], DRAW, warm) == first
    # A shard that is written anew is read anew.
    again = write(tmp_path, "another")
    assert next(row.messages[0].content[0].text for _, row in fetch([again], DRAW, warm)) == "another 4"


def test_large_shards_are_read_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "KEPT_BYTES", 100)
    monkeypatch.setattr(prompts, "read_whole", None)
    folder, warm = write(tmp_path), Resources()
    assert fetch([folder], DRAW, warm) == fetch([folder], DRAW, warm) == fetch([folder], DRAW, Resources())
