"""One reading of the sources for all shards: the same files as shard by shard, each record once, and safe to kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.identity import prompt_id
from schemas.tables import PROMPTS
from stages.core.config import build
from stages.core.runner import Options, run_stage
from stages.core.runs.shards import read_rows
from stages.prepare import kept_rows, one_pass
from stages.prepare.datasets import parquet
from stages.prepare.reading import scans
from stages.prepare.stage import STAGE
from stages.reading.plain_samples import draft_of
from tests.prepare.made import image

ROWS, GROUP, SHARD = 240, 20, 15
CUT = image("red", (64, 64), "JPEG")[:300]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with and without images, a few of them broken, some under a wrong name."""
    rng = random.Random(0)
    rows = []
    for n in range(ROWS):
        data = CUT if n % 17 == 0 else image((n, 0, 9), (16 + n % 5, 16))
        named = {"bytes": data, "path": f"{n}.{'jpg' if n % 23 == 0 else 'png'}"}
        words = " ".join(rng.choices(["uno", "dué", "tres", "four", "五", "six"], k=9))
        rows.append({"prompt": f"{words} {n}", "image": named if n % 3 else None, "answer": str(n)})
    path = tmp_path_factory.mktemp("source") / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=GROUP)
    return path


def run(source: Path, runs: Path, worker: tuple[int, int] = (0, 1), **config: Any) -> Path:
    made = build(STAGE.config, {"sources": [f"parquet:{source}"], "shard_rows": SHARD, **config}, "prepare")
    return run_stage(STAGE, made, [], options=Options(runs=runs, worker=worker)).path


def files(folder: Path) -> dict[str, bytes]:
    found = {f"{kind}/{p.name}": p.read_bytes() for kind in ("shards", "rejected") for p in (folder / kind).iterdir()}
    assert list((folder / "staging").iterdir()) == []
    return found


@pytest.fixture(scope="module")
def alone(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The run's files, made by so many workers that each makes one shard."""
    runs = tmp_path_factory.mktemp("alone")
    shards = ROWS // SHARD
    for index in range(shards):
        folder = run(source, runs, (index, shards))
    return files(folder)


@pytest.mark.parametrize("limit", [1, 40, 10_000])
def test_the_files_are_those_of_shards_made_alone(
    source: Path, alone: dict[str, bytes], limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether rows are spilled one by one, now and then, or all at once."""
    monkeypatch.setattr(one_pass, "SPILL_ROWS", limit)
    assert len(alone) > ROWS // SHARD
    assert files(run(source, tmp_path)) == alone


@pytest.mark.parametrize("room", [True, False])
@pytest.mark.parametrize("reader", ["parquet", "any"])
def test_every_row_is_drafted_once_where_there_is_room_for_it(
    source: Path, reader: str, room: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept on disk in several parts; where the disk is full, rows are drafted again and come out alike."""

    def no_room() -> None:
        raise OSError(28, "No space left on device")

    drafts: list[int] = []
    scans._scans.clear()
    monkeypatch.setattr(kept_rows, "PART_BYTES", 1)
    monkeypatch.setattr(kept_rows, "BATCH_ROWS", 7)
    monkeypatch.setattr(parquet, "draft_of", lambda *given: drafts.append(1) or draft_of(*given))
    monkeypatch.setattr(scans, "draft_of", lambda *given: drafts.append(1) or draft_of(*given))
    if not room:
        monkeypatch.setattr(kept_rows, "_nameless", no_room)
    made = files(run(source, tmp_path / "together", sources=[f"{reader}:{source}"]))
    # A table's questions and answers become columns without a draft.
    assert len(drafts) == (0 if reader == "parquet" else ROWS) + (0 if room else ROWS)
    monkeypatch.setattr(one_pass, "OnePass", lambda *given: None)
    assert made == files(run(source, tmp_path / "alone", sources=[f"{reader}:{source}"]))


def test_an_image_that_changes_after_planning_changes_the_rows_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(image("red", (16, 16)))
    lines = [json.dumps({"prompt": f"What is it? {n}", "image": "a.png"}) for n in range(2)]
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    account = one_pass.OnePass.account

    def late(self: Any, number: int) -> Any:
        (tmp_path / "a.png").write_bytes(image("blue", (16, 16)))
        return account(self, number)

    monkeypatch.setattr(one_pass.OnePass, "account", late)
    folder = run(tmp_path, tmp_path / "runs", sources=[f"jsonl:{tmp_path / 'q.jsonl'}"], shard_rows=1)
    rows = [row for shard in (folder / "shards").iterdir() for row in read_rows(shard, PROMPTS)]
    assert len(rows) == 2
    for row in rows:
        assert row.images[0].bytes == (tmp_path / "a.png").read_bytes()
        assert row.id == prompt_id(label=row.label, messages=row.messages, images=row.images, answer=row.answer)


def test_every_row_group_is_read_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet._group.cache_clear()
    parquet._block.cache_clear()
    read: Counter[int] = Counter()
    found = pq.ParquetFile.read_row_group

    def counted(self: Any, group: int, *rest: Any, **more: Any) -> Any:
        read[group] += 1
        return found(self, group, *rest, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    run(source, tmp_path)
    assert read == Counter(range(ROWS // GROUP))


@pytest.mark.parametrize("broken", ["flush", "tables"])
def test_an_error_in_between_leaves_nothing_behind(
    source: Path, alone: dict[str, bytes], broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()
    found = getattr(one_pass._Spill, broken)

    def fails(self: Any, *args: Any) -> Any:
        calls[broken] += 1
        if calls[broken] == 3:
            raise OSError(28, "No space left on device")
        return found(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(one_pass, "SPILL_ROWS", 50)
        patched.setattr(one_pass._Spill, broken, fails)
        with pytest.raises(OSError, match="No space"):
            run(source, tmp_path)
    assert files(run(source, tmp_path)) == alone


@pytest.mark.parametrize("moment", ["flush", "tables", "__init__"])
def test_a_kill_loses_no_row(source: Path, alone: dict[str, bytes], moment: str, tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from stages.prepare import kept_rows, one_pass
from tests.prepare.test_one_pass import run
one_pass.SPILL_ROWS, count, found = 50, 0, one_pass._Spill.{moment}
def killed(self, *args):
    global count
    count += 1
    if count == (1 if {moment!r} == "__init__" else 4):
        os.kill(os.getpid(), signal.SIGKILL)
    return found(self, *args)
one_pass._Spill.{moment} = killed
run(Path({str(source)!r}), Path({str(tmp_path)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ}, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert files(run(source, tmp_path)) == alone


def test_two_processes_share_the_shards(source: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from tests.prepare.test_one_pass import run
run(Path({str(source)!r}), Path({str(tmp_path)!r}))
"""
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert files(run(source, tmp_path)) == alone
