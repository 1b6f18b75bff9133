"""Commits: killed, interrupted and raced at chosen points, so that nothing depends on speed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from collections import Counter
from pathlib import Path

import pytest

from stages.core.atomic import read_json
from stages.core.runner import Options, Result, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.runs.upkeep import prune_artifacts
from tests.core.test_runner import EXPECTED, ids
from tests.support.cli import PATIENCE, cosmo, environment
from tests.support.toy import ToyConfig, ToyStage

ROOT = Path(__file__).parents[2]


def run(runs: Path, config: ToyConfig | None = None, **options: object) -> Result:
    return run_stage(ToyStage(), config or ToyConfig(), [], options=Options(runs=runs, **options))


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything in a folder: what reading must not change."""
    return {
        p.relative_to(folder).as_posix(): (s.st_ino, s.st_mtime_ns, p.read_bytes() if p.is_file() else b"")
        for p in sorted(folder.rglob("*"))
        for s in [p.lstat()]
    }


def child(script: str, runs: Path, *more: str) -> subprocess.Popen[str]:
    """A process that runs the toy after a few lines that bend what it is built on."""
    given = [str(runs), "4", "0", *more]
    lines = f"{script}\nimport sys\nfrom tests.support.toy import main\nsys.argv[1:] = {given!r}\nmain()"
    return subprocess.Popen(
        [sys.executable, "-c", lines], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    )


KILLED_AFTER_THE_RECEIPT = """
import os, signal
from stages.core.storage import local
move = local.move_into_place
def dies(staged, final):
    if final.name == "{name}" and final.parent.name == "{folder}":
        os.kill(os.getpid(), signal.SIGKILL)
    move(staged, final)
local.move_into_place = dies
"""


@pytest.mark.parametrize(
    ("folder", "name"), [("notes", "1.txt"), ("rejected", "00001.parquet"), ("shards", "00001.parquet")]
)
def test_sigkill_between_receipt_and_rename(folder: str, name: str, tmp_path: Path) -> None:
    """Before the first rename, and between two: readers see the shard and touch nothing, the same command finishes."""
    killed = child(KILLED_AFTER_THE_RECEIPT.format(folder=folder, name=name), tmp_path)
    assert killed.wait() == -signal.SIGKILL
    path = next(tmp_path.iterdir())
    receipt = read_json(path / "receipts" / "00001.json")
    assert (path / receipt["staging"] / folder / name).is_file()
    assert not (path / folder / name).exists()
    before = tree(tmp_path)
    reader = RunFolder.open(path)
    assert (reader.missing(), ids(path)) == ([2, 3], EXPECTED[:10])
    assert sorted(r.reason for r in reader.rejected()) == ["duplicate", "odd", "odd"]
    assert len(reader.shard_paths()) == 2
    for command in (["show", path, "-n", "20", "--json"], ["status", tmp_path, "--json"]):
        done = cosmo(*command, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        if command[0] == "show":
            assert [row["id"] for row in json.loads(done.stdout)] == EXPECTED[:10]
    assert tree(tmp_path) == before
    kept = (path / receipt["staging"] / folder / name).stat().st_ino
    assert run(tmp_path).state == "done"
    assert ids(path) == EXPECTED
    assert (path / folder / name).stat().st_ino == kept
    assert not list((path / "staging").iterdir())
    assert sorted(p.name for p in (path / "notes").iterdir()) == ["0.txt", "1.txt", "2.txt", "3.txt"]


def test_a_complete_run_whose_last_commit_was_cut_short_is_finished_by_the_same_command(tmp_path: Path) -> None:
    path = run(tmp_path).path
    staged = path / read_json(path / "receipts" / "00003.json")["staging"] / "shards"
    staged.mkdir(parents=True)
    os.rename(path / "shards" / "00003.parquet", staged / "00003.parquet")
    assert RunFolder.open(path).complete
    assert run(tmp_path).state == "cached"
    assert (path / "shards" / "00003.parquet").is_file()
    assert not list((path / "staging").iterdir())
    assert ids(path) == EXPECTED


def test_a_worker_finishes_a_commit_that_was_cut_short_also_where_other_shards_stay_missing(tmp_path: Path) -> None:
    path = run(tmp_path, worker=(1, 4)).path
    staged = path / read_json(path / "receipts" / "00001.json")["staging"] / "shards"
    staged.mkdir(parents=True)
    os.rename(path / "shards" / "00001.parquet", staged / "00001.parquet")
    assert run(tmp_path, worker=(2, 4)).state == "waiting"
    assert (path / "shards" / "00001.parquet").is_file()
    assert not staged.exists()


def test_an_artifact_is_read_where_it_lies(tmp_path: Path) -> None:
    path = run(tmp_path, ToyConfig(shards=1)).path
    folder = RunFolder.open(path)
    assert folder.artifact("notes") == path / "notes"
    staged = path / folder.receipt(0).staging
    staged.mkdir(parents=True)
    os.rename(path / "notes", staged / "notes")
    assert folder.artifact("notes/0.txt").read_text() == "note"
    assert (folder.artifact("notes") / "0.txt").read_text() == "note"


def test_what_a_kill_left_in_a_complete_run_is_cleaned_and_its_report_is_written(tmp_path: Path) -> None:
    path = run(tmp_path).path
    report = read_json(path / "report.json")
    (path / "report.json").unlink()
    (path / "staging" / "00000.scratch" / "checkpoint-3").mkdir(parents=True)
    (path / "staging" / "00000.scratch" / "checkpoint-3" / "weights").write_text("heavy")
    gone = subprocess.Popen(["true"])
    gone.wait()
    (path / f".report.json.{gone.pid}").write_text("half of i")
    (path / f".manifest.json.{os.getpid()}").write_text("somebody is at it")
    assert run(tmp_path).state == "cached"
    assert not list((path / "staging").iterdir())
    assert read_json(path / "report.json") == report
    assert [p.name for p in path.glob(".*")] == [f".manifest.json.{os.getpid()}"]


def test_a_run_that_is_found_complete_is_not_written_to(tmp_path: Path) -> None:
    path = run(tmp_path).path
    before = tree(path)
    assert run(tmp_path).state == "cached"
    assert tree(path) == before


def test_a_report_without_rows_breaks_nothing(tmp_path: Path) -> None:
    path = run(tmp_path).path
    (path / "report.json").write_text("{}")
    assert (run(tmp_path).state, run(tmp_path).rows) == ("cached", 20)


class Interrupt:
    """Ctrl-C at the n-th line of these modules that a run gets to.

    A line counts ten times. All that moves or writes anything is passed less often; what is passed more often checks
    a path, or looks at one column of a table after another.
    """

    FILES = ("runs/commit.py", "runs/shards.py", "storage/local.py", "executors/shard_worker.py", "core/atomic.py")
    VISITS = 10

    def __init__(self, line: int) -> None:
        self.left = line
        self.visits: Counter[tuple[types.CodeType, int]] = Counter()

    def __call__(self, frame: types.FrameType, event: str, arg: object) -> object:
        if not frame.f_code.co_filename.endswith(self.FILES):
            return None
        if event == "line":
            place = (frame.f_code, frame.f_lineno)
            self.visits[place] += 1
            if self.visits[place] <= self.VISITS:
                self.left -= 1
                if self.left == 0:
                    raise KeyboardInterrupt
        return self


def test_ctrl_c_at_any_line_leaves_nothing_staged_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a key pressed does is the same without waiting for the disk, hundreds of times.
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    config, line, interrupted = ToyConfig(shards=1, rows=2), 0, 0
    expected = ids(run(tmp_path / "whole", config).path)
    while True:
        line += 1
        runs = tmp_path / str(line)
        sys.settrace(Interrupt(line))
        try:
            run(runs, config)
        except KeyboardInterrupt:
            interrupted += 1
        else:
            break
        finally:
            sys.settrace(None)
        staged = [p for p in runs.glob("*/staging/*/**/*") if p.is_file()]
        assert not staged, (line, staged)
        for manifest in runs.glob("*/manifest.json"):
            # Where the receipt stands, the shard is there: its work is not lost for the key having been pressed late.
            folder = RunFolder.open(manifest.parent)
            assert folder.complete == bool(folder.receipts()), line
        done = run(runs, config)
        assert ids(done.path) == expected, line
        assert not list(done.path.glob("staging/*"))
    assert interrupted > 100


RACING = """
import fcntl, os, time
from pathlib import Path
from stages.core.runs import commit
from stages.core.storage import local
fcntl.flock = lambda *given: None
meet, commits = Path({meet!r}), local.LocalWriter.commit
def together(self, root, receipt):
    # Nobody commits a shard before both have it staged.
    (meet / f"{{receipt.index}}-{{os.getpid()}}").touch()
    until = time.monotonic() + {patience}
    while len(list(meet.glob(f"{{receipt.index}}-*"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.005)
    won = False
    try:
        # Of the last shard, who won may be done with all, and has cleaned up, before the other begins.
        won = commits(self, root, receipt)
    finally:
        with open(meet / "won", "a") as said:
            said.write(f"{{receipt.index}} {{won}}\\n")
    return won
local.LocalWriter.commit = together
"""


def test_a_receipt_is_exclusive_where_locks_do_nothing(tmp_path: Path) -> None:
    meet, runs = tmp_path / "meet", tmp_path / "runs"
    meet.mkdir()
    racers = [child(RACING.format(meet=str(meet), patience=PATIENCE), runs) for _ in range(2)]
    said = [racer.communicate(timeout=PATIENCE)[0] for racer in racers]
    assert [r.returncode for r in racers] == [0, 0]
    assert said[0].split()[0] == said[1].split()[0]
    assert sorted((meet / "won").read_text().splitlines()) == [f"{n} {won}" for n in range(4) for won in (False, True)]
    path = Path(said[0].split()[0])
    folder = RunFolder.open(path)
    assert (folder.complete, ids(path)) == (True, EXPECTED)
    assert len(list((path / "shards").iterdir())) == 4
    assert not list((path / "staging").glob("*/*"))


def test_pruned_artifacts_are_gone_on_purpose_and_the_run_is_not_made_again(tmp_path: Path) -> None:
    path = run(tmp_path).path
    made = (path / "shards" / "00000.parquet").stat().st_mtime_ns
    for _ in range(2):
        prune_artifacts(RunFolder.open(path), ("notes",))
    assert not (path / "notes").exists()
    assert RunFolder.open(path).receipt(2).pruned == ("notes",)
    assert run(tmp_path).state == "cached"
    assert (path / "shards" / "00000.parquet").stat().st_mtime_ns == made
    # Of what is not pruned, nothing may be missing.
    (path / "rejected" / "00002.parquet").unlink()
    assert RunFolder.open(path).missing() == [2]


def test_a_stage_can_not_commit_under_a_name_of_the_runners(tmp_path: Path) -> None:
    from stages.core.runs.commit import StagedShard

    writer = StagedShard(RunFolder.open(run(tmp_path).path), "toy", ToyStage.table, 0)
    for name in ("receipts/00001.json", "manifest.json", "../x", "/x", "a//b", "staging/x", ".hidden", ""):
        with pytest.raises(ValueError, match="the artifact"):
            writer.artifact(name)
