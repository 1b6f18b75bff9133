"""How far a run is, for whoever looks on: kept while it goes on, gone when it ends, and believed only if it can be."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from stages.core.runner import Options, run_stage
from stages.core.runs import noted as module
from stages.core.runs.folder import RunFolder
from stages.core.runs.noted import noted, notes
from stages.core.stage import Silent
from tests.support.toy import ToyConfig, ToyStage


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.open(run_stage(ToyStage(), ToyConfig(), [], options=Options(runs=tmp_path, worker=(0, 2))).path)


class Heard(Silent):
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        self.calls.append((n, numbers))

    def log(self, message: str) -> None:
        self.calls.append((message,))


def test_what_is_said_is_passed_on_and_can_be_read_meanwhile(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EVERY", 0.0)
    heard = Heard()
    with noted(heard, run) as progress:
        progress.start("rollout", 8, "groups")
        progress.advance(2, tokens_per_second=1234.5)
        progress.log("a line")
        progress.start("rollout", 8, "groups")
        progress.advance(1)
        (note,) = notes(run)
        assert (note.what, note.done, note.total, note.unit) == ("rollout", 3, 8, "groups")
        assert note.numbers == {"tokens_per_second": "1234" if "1234" in str(note.numbers) else "1235"}
        progress.start("score", None, "groups")
        (note,) = notes(run)
        assert (note.what, note.done, note.seconds_left) == ("score", 0, None)
    assert notes(run) == []
    assert heard.calls == [(2, {"tokens_per_second": 1234.5}), ("a line",), (1, {})]


def test_time_left_is_by_the_speed_so_far() -> None:
    assert module.Note("train", 25, 100, "step", {}, began=1000.0, at=1050.0).seconds_left == 150.0
    assert module.Note("train", 25, 100, "step", {}, began=1000.0, at=1050.0).speed == 0.5
    assert module.Note("train", 120, 100, "step", {}, began=1000.0, at=1050.0).seconds_left == 0.0
    assert module.Note("train", 0, 100, "step", {}, began=1000.0, at=1050.0).speed is None


def test_it_is_gone_after_an_error_and_after_a_finished_run(tmp_path: Path) -> None:
    whole = run_stage(ToyStage(), ToyConfig(), [], options=Options(runs=tmp_path))
    assert list((whole.path / "staging").iterdir()) == []

    def fails() -> None:
        with noted(Silent(), RunFolder.open(whole.path)) as progress:
            progress.start("x", 1, "y")
            assert len(notes(RunFolder.open(whole.path))) == 1
            raise ValueError

    with pytest.raises(ValueError):
        fails()
    assert list((whole.path / "staging").iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"what": 1}', '{"what": "x", "done": "many", "total": 1}', "[" * 50_000, "x" * 20_000],
)
def test_what_is_no_note_is_none(run: RunFolder, text: str) -> None:
    (run.path / "staging" / "1.progress.json").write_text(text)
    assert notes(run) == []


def test_a_link_is_not_followed_and_a_dead_process_is_forgotten(run: RunFolder, tmp_path: Path) -> None:
    record = {"what": "x", "done": 1, "total": 2, "unit": "y", "numbers": {}, "began": 0.0, "at": time.time()}
    (tmp_path / "elsewhere.json").write_text(json.dumps(record))
    os.symlink(tmp_path / "elsewhere.json", run.path / "staging" / "1.progress.json")
    assert notes(run) == []
    (run.path / "staging" / "2.progress.json").write_text(json.dumps(record))
    assert len(notes(run)) == 1
    (run.path / "staging" / "2.progress.json").write_text(json.dumps(record | {"at": time.time() - 3600}))
    assert notes(run) == []


def test_where_nothing_can_be_written_the_work_goes_on(run: RunFolder) -> None:
    (run.path / "staging" / f"{os.getpid()}.progress.json").mkdir()
    with noted(Silent(), run) as progress:
        progress.start("x", 1, "y")
        progress.advance()
