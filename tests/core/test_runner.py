"""The runner: cached, resumed, killed, raced, corrupted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schemas.tables import PROMPTS
from stages.core.atomic import read_json
from stages.core.errors import InputError, UsageError
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from tests.support.toy import PromptReader, ToyConfig, ToyStage, toy_row


def run(runs: Path, config: ToyConfig | None = None, **options: object):
    return run_stage(ToyStage(), config or ToyConfig(), [], options=Options(runs=runs, **options))


def ids(path: Path) -> list[str]:
    return [r.id for r in RunFolder.open(path).rows(PROMPTS)]


EXPECTED = [toy_row(s, n).id for s in range(4) for n in range(5)]


def test_rows_rejected_and_artifacts_are_committed(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.state == "done"
    assert ids(result.path) == EXPECTED
    assert result.rejected == {"odd": 4, "duplicate": 1}
    reasons = [r.reason for r in RunFolder.open(result.path).rejected()]
    assert sorted(reasons) == ["duplicate", "odd", "odd", "odd", "odd"]
    assert (result.path / "notes" / "3.txt").read_text() == "note"
    assert not list((result.path / "staging").iterdir())


def test_same_call_is_cached_and_config_that_affects_rows_moves_it(tmp_path: Path) -> None:
    first = run(tmp_path)
    again = run(tmp_path, ToyConfig(delay=0.001))
    other = run(tmp_path, ToyConfig(rows=6))
    assert (again.state, again.path) == ("cached", first.path)
    assert again.rows == 20
    assert other.path != first.path


def test_failure_leaves_nothing_half_written_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="asked to fail"):
        run(tmp_path, ToyConfig(fail_at=2))
    folder = RunFolder.open(next(tmp_path.iterdir()))
    assert folder.missing() == [2, 3]
    assert sorted(p.name for p in (folder.path / "shards").iterdir()) == ["00000.parquet", "00001.parquet"]
    assert ids(run(tmp_path).path) == EXPECTED


def test_workers_split_a_plan(tmp_path: Path) -> None:
    first = run(tmp_path, worker=(1, 3))
    assert (first.state, first.shards_done) == ("waiting", 1)
    run(tmp_path, worker=(0, 3))
    assert run(tmp_path, worker=(2, 3)).state == "done"
    assert ids(first.path) == EXPECTED


def spawn(runs: Path, delay: float, worker: str = "0/1") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.toy", str(runs), "4", str(delay), worker]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)


def test_sigkill_at_random_moments_then_the_same_command(tmp_path: Path) -> None:
    rng = random.Random(3)
    for _ in range(4):
        process = spawn(tmp_path, 0.03)
        time.sleep(rng.uniform(0.3, 0.9))
        process.send_signal(signal.SIGKILL)
        process.wait()
    result = run(tmp_path)
    assert ids(result.path) == EXPECTED
    assert sum(r.rows for r in RunFolder.open(result.path).receipts().values()) == 20


def test_two_processes_on_one_plan_neither_lose_nor_double(tmp_path: Path) -> None:
    racers = [spawn(tmp_path, 0.01) for _ in range(3)]
    assert [p.wait() for p in racers] == [0, 0, 0]
    path = Path(racers[0].stdout.read().split()[0])
    assert ids(path) == EXPECTED


def test_a_death_between_receipt_and_rename_is_finished_by_whoever_looks(tmp_path: Path) -> None:
    path = run(tmp_path).path
    receipt = read_json(path / "receipts" / "00001.json")
    staged = path / receipt["staging"] / "shards"
    staged.mkdir(parents=True)
    os.rename(path / "shards" / "00001.parquet", staged / "00001.parquet")
    assert ids(path) == EXPECTED


def test_a_lost_shard_is_made_again_and_a_corrupt_one_is_refused(tmp_path: Path) -> None:
    path = run(tmp_path).path
    shard = path / "shards" / "00002.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0xFF
    shard.write_bytes(data)
    with pytest.raises(InputError, match=r"00002\.parquet is corrupt"):
        ids(path)
    shard.unlink()
    assert run(tmp_path).state == "done"
    assert ids(path) == EXPECTED


def test_incomplete_upstream_is_refused_unless_partial(tmp_path: Path) -> None:
    upstream = run(tmp_path / "up", worker=(0, 2)).path
    with pytest.raises(InputError, match="incomplete: 2 of 4 shards"):
        run_stage(PromptReader(), ToyConfig(), [upstream], options=Options(runs=tmp_path))
    partial = Options(runs=tmp_path, partial=True)
    part = run_stage(PromptReader(), ToyConfig(), [upstream], options=partial)
    run(tmp_path / "up")
    whole = run_stage(PromptReader(), ToyConfig(), [upstream], options=partial)
    assert (part.rows, whole.rows) == (10, 20)
    assert part.path != whole.path


def test_a_shard_on_its_own_is_good_input(tmp_path: Path) -> None:
    shard = run(tmp_path).path / "shards" / "00001.parquet"
    result = run_stage(PromptReader(), ToyConfig(), [shard], options=Options(runs=tmp_path))
    assert ids(result.path) == EXPECTED[5:10]


def test_wrong_kind_of_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder or shard"):
        run_stage(PromptReader(), ToyConfig(), [tmp_path / "none"], options=Options(runs=tmp_path))
    with pytest.raises(InputError, match="was given no input"):
        run_stage(PromptReader(), ToyConfig(), [], options=Options(runs=tmp_path))


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    result = run(tmp_path / "runs", dry_run=True)
    assert (result.state, result.shards) == ("planned", 4)
    assert not (tmp_path / "runs").exists()


def test_another_plan_in_the_same_place_is_refused(tmp_path: Path) -> None:
    path = run(tmp_path).path
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace(read_json(manifest)["fingerprint"], "0" * 64))
    with pytest.raises(UsageError, match="belongs to another plan"):
        run(tmp_path)
