"""A training run whose process is at work: its steps so far are curves, and its speed and time left are said."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from schemas.tables import SCORED
from stages.core.stage import Silent
from stages.train.run_log import LIVE
from tests.eval.made import scored_run
from tests.train.made import scored_group, steps, train, write_shard
from tests.view.made import TOKEN, client, varied


class Stopped(Exception):
    """Ends the training in hand."""


class LooksOn(Silent):
    """Opens the page of the run that is being trained after its fourth step."""

    def __init__(self, runs: Path) -> None:
        self.runs, self.done = runs, 0
        self.page = self.state = self.list = self.newest = self.all = ""

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        self.done += n
        if self.done == 4:
            (path,) = self.runs.glob("train-*")
            reader = client(self.runs)
            self.page = reader.get(f"/{TOKEN}/run/{path.name}/").text
            self.state = reader.get(f"/{TOKEN}/state?run={path.name}").json()
            self.list, self.newest = (reader.get(f"/{TOKEN}/{page}").text for page in ("", "training"))
            self.all = reader.get(f"/{TOKEN}/state?run=").json()


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    from stages.models.load import load_policy
    from stages.models.policy_ref import resolve_policy

    policy = load_policy(resolve_policy("tiny:llama"))
    groups = [scored_group(policy, i, images=False, rewards=[0.0, 0.5, 1.0]) for i in range(6)]
    return write_shard(tmp_path_factory.mktemp("live") / "s.parquet", SCORED, groups)


SETTINGS = {"policy": "tiny:llama", "learning_rate": 1e-3, "updates_per_rollout": 6}


def test_steps_are_curves_while_training_goes_on(tmp_path, shard, monkeypatch):
    monkeypatch.setattr("stages.core.runs.noted._EVERY", 0.0)
    looks = LooksOn(tmp_path)
    run = train(shard, tmp_path, progress=looks, **SETTINGS)
    assert "No step has landed yet" not in looks.page
    assert "4 of 6 steps ·" in " ".join(looks.page.split())
    assert " a second · loss " in looks.page
    assert "free on disk" in looks.page
    assert " left" in looks.page
    assert looks.page.count("<svg") > 5
    assert looks.state["complete"] is False
    assert len(looks.state["at"]) == 1
    # The list says it of all that is at work, and so does the page that goes from turn to turn.
    for page in (looks.list, looks.newest):
        assert "4 of 6 steps ·" in " ".join(page.split())
        assert "free on disk" in page
    assert looks.newest.count("<svg") == looks.page.count("<svg")
    assert looks.all["at"] == looks.state["at"]
    # What stands there is what was committed in the end.
    done = client(tmp_path).get(f"/{TOKEN}/run/{run.path.name}/").text
    assert "free on disk" not in done
    assert list((run.path / "staging").iterdir()) == []


def test_a_resumed_run_keeps_each_step_once(tmp_path, shard):
    class Stops(Silent):
        left = 4

        def advance(self, n: int = 1, **numbers: float | str) -> None:
            self.left -= n
            if not self.left:
                raise Stopped

    with pytest.raises(Stopped):
        train(shard, tmp_path, progress=Stops(), checkpoint_steps=2, **SETTINGS)
    (kept,) = tmp_path.glob(f"train-*/staging/*.scratch/{LIVE}")
    assert [json.loads(line)["step"] for line in kept.read_text().splitlines()] == [1, 2, 3, 4]
    lines = []

    class Reads(Silent):
        def advance(self, n: int = 1, **numbers: float | str) -> None:
            lines.append([json.loads(line)["step"] for line in kept.read_text().splitlines()])

    run = train(shard, tmp_path, progress=Reads(), checkpoint_steps=2, **SETTINGS)
    assert lines[-1] == [row.step for row in steps(run)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("line", ["{", "[]", '{"objective": "<script>"}', "\x00", "[" * 50_000])
def test_a_strangers_file_of_steps_breaks_no_page(tmp_path, shard, line):
    with pytest.raises(Stopped):
        train(shard, tmp_path, progress=_Stop(), **SETTINGS)
    (kept,) = tmp_path.glob(f"train-*/staging/*.scratch/{LIVE}")
    with kept.open("a") as file:
        file.write(line)
    (path,) = tmp_path.glob("train-*")
    page = client(tmp_path).get(f"/{TOKEN}/run/{path.name}/")
    assert page.status_code == 200
    assert "<script>" not in page.text.replace("<script src", "")


def test_a_link_to_steps_elsewhere_is_not_followed(tmp_path, shard):
    with pytest.raises(Stopped):
        train(shard, tmp_path / "runs", progress=_Stop(), **SETTINGS)
    (kept,) = (tmp_path / "runs").glob(f"train-*/staging/*.scratch/{LIVE}")
    kept.rename(tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", kept)
    (path,) = (tmp_path / "runs").glob("train-*")
    assert "No step has landed yet" in client(tmp_path / "runs").get(f"/{TOKEN}/run/{path.name}/").text


class _Stop(Silent):
    def advance(self, n: int = 1, **numbers: float | str) -> None:
        raise Stopped


def test_a_recipes_turns_stand_above_the_list_and_a_strangers_note_is_words(tmp_path, shard):
    from stages.core.runs.noted import Note

    train(shard, tmp_path, **SETTINGS)
    numbers = {"phase": "stage2 16/36", "": "reward 1.95"}
    note = Note("<script>", 16, 36, "turns", numbers, began=time.time() - 160, at=time.time())
    note.keep(tmp_path / "summary.progress.json")
    for address in ("", "training"):
        page = " ".join(client(tmp_path).get(f"/{TOKEN}/{address}").text.split())
        assert "&lt;script&gt;" in page
        assert "16 of 36 turns · 0.1 a second · phase stage2 16/36 · reward 1.95 · 3:20 left" in page
    (tmp_path / "summary.progress.json").unlink()
    assert "16 of 36" not in client(tmp_path).get(f"/{TOKEN}/").text


def test_without_any_training_there_is_no_such_page(tmp_path):
    scored_run(tmp_path, varied(1))
    assert client(tmp_path).get(f"/{TOKEN}/training").status_code == 404
    assert "Curves of the newest training" not in client(tmp_path).get(f"/{TOKEN}/").text
