"""Who does a shard: opened once, never made twice, waited for, and its errors passed on."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from pathlib import Path
from typing import Any

import pytest

from stages.core.executors.shard_worker import ShardWorker
from stages.core.runner import Options, Result, run_stage
from stages.core.runs.commit import shard_lock
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Resources, ShardWriter, Silent, Work
from tests.core.test_runner import EXPECTED, ids
from tests.support.toy import ToyConfig, ToyStage


class Diary(ToyStage):
    """The toy, which notes when it is opened and what it makes."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def open(self, ctx: Context) -> Work:
        self.noted.append("open")
        work = super().open(ctx)

        def makes(shard: dict[str, Any], writer: ShardWriter) -> None:
            self.noted.append(f"shard {shard['shard']}")
            work(shard, writer)

        return makes


def run(runs: Path, stage: ToyStage | None = None, **options: Any) -> Result:
    return run_stage(stage or ToyStage(), ToyConfig(), [], options=Options(runs=runs, **options))


def test_a_stage_is_opened_once_for_its_shards_and_not_for_a_complete_run(tmp_path: Path) -> None:
    stage = Diary()
    path = run(tmp_path, stage).path
    assert stage.noted == ["open", "shard 0", "shard 1", "shard 2", "shard 3"]
    assert run(tmp_path, stage).state == "cached"
    # Found missing, and made by others before its lock was had.
    worker = ShardWorker(stage, Context(ToyConfig(), [], Silent(), Resources()), RunFolder.open(path), [])
    assert worker.do(2) is True
    assert len(stage.noted) == 5


class Letting(Silent):
    """Lets go of a lock as soon as somebody says that he waits."""

    def __init__(self, locks: contextlib.ExitStack) -> None:
        self._locks = locks

    def log(self, message: str) -> None:
        assert message.startswith("waiting for another process on 1 shards")
        self._locks.close()


def test_a_shard_that_another_has_in_hand_comes_last_and_is_made_if_he_did_not(tmp_path: Path) -> None:
    stage, folder = Diary(), RunFolder.open(run(tmp_path, worker=(0, 4)).path)
    with contextlib.ExitStack() as locks:
        assert locks.enter_context(shard_lock(folder, 1, wait=False))
        options = Options(runs=tmp_path)
        result = run_stage(stage, ToyConfig(), [], options=options, progress=Letting(locks))
    assert result.state == "done"
    assert stage.noted == ["open", "shard 2", "shard 3", "shard 1"]


class Loses(ToyStage):
    """A file that the stage needs is not there."""

    def open(self, ctx: Context) -> Work:
        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            Path("no/such/file").read_text()

        return work


def test_what_a_stage_does_not_find_is_its_error_and_no_lost_race(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run(tmp_path, Loses())
    assert not list(tmp_path.glob("*/receipts/*"))
    assert not list(tmp_path.glob("*/staging/*/*"))


class Overtaken(ToyStage):
    """Another process makes the whole run meanwhile, and tidies up what this one had staged."""

    def open(self, ctx: Context) -> Work:
        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            (staged,) = ctx.scratch.parent.glob("*/shards")  # type: ignore[union-attr]
            run(ctx.scratch.parents[2])  # type: ignore[union-attr]
            shutil.rmtree(staged)
            raise FileNotFoundError(staged)

        return work


def test_where_locks_do_nothing_a_lost_race_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *given: None)
    result = run(tmp_path, Overtaken())
    assert (result.state, ids(result.path)) == ("done", EXPECTED)
    assert not list(result.path.glob("staging/*/*"))


class Refuses(ToyStage):
    """The toy, which leaves out two samples more, for two reasons."""

    def open(self, ctx: Context) -> Work:
        work = super().open(ctx)

        def refuses(shard: dict[str, Any], writer: ShardWriter) -> None:
            writer.reject("toy", "one", "odd", "as odd as the toy's own")
            writer.reject("toy", "two", "empty", "nothing in it")
            work(shard, writer)

        return refuses


def test_a_receipt_counts_what_was_left_out_by_reason(tmp_path: Path) -> None:
    folder = RunFolder.open(run(tmp_path, Refuses()).path)
    counts = [folder.receipt(shard).rejected for shard in range(4)]  # type: ignore[union-attr]
    assert counts == [{"duplicate": 1, "odd": 2, "empty": 1}, *[{"odd": 2, "empty": 1}] * 3]


def test_a_reader_lists_the_shards_that_came_since(tmp_path: Path) -> None:
    reader = RunFolder.open(run(tmp_path, worker=(0, 2)).path)
    assert [p.name for p in reader.shard_paths()] == ["00000.parquet", "00002.parquet"]
    run(tmp_path)
    assert [p.name for p in reader.shard_paths()] == [f"{n:05d}.parquet" for n in range(4)]


def test_bare_parquet_is_told_by_every_file(tmp_path: Path) -> None:
    """In the order of names, whatever they were written in."""
    shards = sorted((run(tmp_path / "runs").path / "shards").iterdir())
    found = []
    for name, last in (("one", 2), ("other", 3)):
        (tmp_path / name).mkdir()
        for new, old in (("b", shards[last]), ("a", shards[0])):
            (tmp_path / name / f"{new}.parquet").write_bytes(old.read_bytes())
        found.append(RunFolder.open(tmp_path / name))
    assert found[0].fingerprint != found[1].fingerprint
    assert [p.name for p in found[0].shard_paths()] == ["a.parquet", "b.parquet"]
