"""Commits that are done beside the command's next work: nothing is there before its time, and a kill loses nothing."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from schemas.tables import REJECTED
from stages.core.runner import Options, Result, start_stage
from stages.core.runs.behind import Behind
from stages.core.runs.commit import StagedShard, shard_lock
from stages.core.runs.folder import RunFolder
from tests.core.test_runner import EXPECTED, ids
from tests.support.dying import killed_at
from tests.support.toy import ToyConfig, ToyStage

ONE = ToyConfig(shards=1)


def finished(runs: Path, config: ToyConfig = ONE) -> Result:
    return start_stage(ToyStage(), config, [], options=Options(runs=runs), behind=Behind()).finish()


def contents(runs: Path) -> dict[str, bytes]:
    """Every file but those that hold seconds."""
    files = [p for p in sorted(runs.rglob("*")) if p.is_file() and p.parent.name != "receipts"]
    return {str(p.relative_to(runs)): p.read_bytes() for p in files if p.name != "report.json"}


def test_the_command_goes_on_while_the_commit_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go, plain = threading.Event(), StagedShard.commit

    def waits(self: StagedShard) -> bool:
        assert let_go.wait(timeout=600)
        return plain(self)

    monkeypatch.setattr(StagedShard, "commit", waits)
    started = start_stage(ToyStage(), ONE, [], options=Options(runs=tmp_path), behind=Behind())
    folder = RunFolder.open(started.path)
    assert (folder.missing(), list((started.path / "receipts").iterdir())) == ([0], [])
    # It is in hand: nobody else begins with it.
    with shard_lock(folder, 0, wait=False) as locked:
        assert not locked
    let_go.set()
    result = started.finish()
    assert (result.state, result.path, result.rows) == ("done", started.path, 5)
    with shard_lock(folder, 0, wait=False) as locked:
        assert locked
    assert (started.path / "report.json").is_file()


def test_it_gives_what_a_plain_run_gives(tmp_path: Path) -> None:
    four = ToyConfig()
    plain = start_stage(ToyStage(), four, [], options=Options(runs=tmp_path / "plain")).finish()
    behind = finished(tmp_path / "behind", four)
    assert ids(behind.path) == EXPECTED
    assert (behind.fingerprint, behind.rejected) == (plain.fingerprint, plain.rejected)
    assert contents(tmp_path / "behind") == contents(tmp_path / "plain")
    assert finished(tmp_path / "behind", four).state == "cached"


def test_an_error_of_the_commit_comes_when_it_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    started = None
    with monkeypatch.context() as patched:
        # The manifest is synced, too, by the main thread.
        plain = os.fsync
        main = threading.main_thread()
        patched.setattr(os, "fsync", lambda h: plain(h) if threading.current_thread() is main else full(h))
        started = start_stage(ToyStage(), ONE, [], options=Options(runs=tmp_path), behind=Behind())
        with pytest.raises(OSError, match="No space left"):
            started.finish()
    assert RunFolder.open(started.path).missing() == [0]
    assert not [p for p in (started.path / "staging").iterdir() if p.is_dir() and p.suffix != ".scratch"]
    assert finished(tmp_path).state == "done"


def test_what_another_thread_writes_is_waited_for_before_the_files_are_listed(tmp_path: Path) -> None:
    class Slow(ToyStage):
        def open(self, ctx):  # type: ignore[no-untyped-def]
            work = super().open(ctx)

            def slowly(shard, writer):  # type: ignore[no-untyped-def]
                work(shard, writer)
                path = writer.artifact("late.bin")
                writer.before_commit(lambda: path.write_bytes(b"late"))

            return slowly

    result = start_stage(Slow(), ONE, [], options=Options(runs=tmp_path), behind=Behind()).finish()
    assert (result.path / "late.bin").read_bytes() == b"late"
    assert "late.bin" in [entry.path for entry in RunFolder.open(result.path).receipts()[0].files]


def test_killed_at_any_operation_of_the_commit_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    operations = killed_at(-1, finished, tmp_path / "whole")
    # Shard, rejected rows and note, each synced and renamed; the receipt, synced and linked.
    assert operations == 8
    for n in range(operations):
        runs = tmp_path / f"cut{n}"
        assert killed_at(n, finished, runs) is None
        again = finished(runs)
        assert again.state == ("cached" if n >= 5 else "done"), n
        assert contents(runs) == contents(tmp_path / "whole"), n
        assert [r.ref for r in RunFolder.open(again.path).rejected()] == ["row x", "shard 0"]
        assert REJECTED.name in {p.name for p in again.path.iterdir()}
