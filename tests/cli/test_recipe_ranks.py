"""A recipe's ranks are started once and stay for all of its turns; however it ends, they end with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import cosmo_cli.recipe.run as loop
from cosmo_cli.recipe.run import run_recipe
from cosmo_cli.recipe.schema import parse
from cosmo_cli.terminal.output import Output
from stages.core.runs.folder import RunFolder
from stages.train import processes
from stages.train.launching.staying import Ranks
from tests.support.cli import PATIENCE, complaint, environment
from tests.support.varied import NAME
from tests.train.made import contents, every_run
from tests.train.parallel import children

RECIPE: dict[str, Any] = {
    "name": "together",
    "seed": 3,
    "policy": "tiny:llama",
    "prepare": {"sources": [{"name": "builtin", "train": 120, "test": 20}], "images": "without"},
    "rollout": {"samples": 2, "max_new_tokens": 6, "device": "cpu"},
    "score": {"rewards": {label: {"terms": {NAME: 1.0}} for label in ("general", "safety")}},
    "train": {
        "updates_per_rollout": 1, "learning_rate": 3e-3, "drop_flat_groups": False, "nproc": 2, "device": "cpu",
    },
    "phases": [{"name": "one", "iterations": 3, "prompts": 4, "labels": {"general": 1.0}}],
    "retention": {"policies": 9},
}  # fmt: skip


def trained(runs: Path) -> dict[str, RunFolder]:
    """The training runs by their turn's name; one that is being made may have no manifest yet."""
    found = [RunFolder.open(path.parent) for path in runs.glob("train-*/manifest.json")]
    return {str(f.manifest.provenance["name"]): f for f in found}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often ranks were started, and how many jobs they did."""
    counts = {"started": 0, "jobs": 0}
    start, do = Ranks.__init__, Ranks.do

    def started(*given: Any) -> None:
        counts["started"] += 1
        start(*given)

    def done(*given: Any) -> Any:
        counts["jobs"] += 1
        return do(*given)

    monkeypatch.setattr(Ranks, "__init__", started)
    monkeypatch.setattr(Ranks, "do", done)
    return counts


def test_they_are_started_once_and_come_to_what_new_ones_do(tmp_path: Path, counted: dict[str, int]) -> None:
    run_recipe(parse(RECIPE), tmp_path, Output("run", quiet=True))
    assert counted == {"started": 1, "jobs": 3}
    # The last turn once more, by ranks that have to read what the second one came to.
    last = trained(tmp_path)["one_3"]
    held = contents(last)
    shutil.rmtree(last.path)
    run_recipe(parse(RECIPE), tmp_path, Output("run", quiet=True))
    assert counted == {"started": 2, "jobs": 4}
    assert contents(trained(tmp_path)["one_3"]) == held
    assert not any(map(_is_rank, children(os.getpid())))


@pytest.mark.parametrize(
    ("parallel", "refill", "missing"), [("ddp", 0, [0, 1, 1]), ("fsdp2", 0, [0, 1, 1]), ("ddp", 1, [0, 0, 1, 0, 1, 0])]
)
def test_the_next_rollout_comes_before_the_receipt_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parallel: str, refill: int, missing: list[int]
) -> None:
    """A turn's further rollout finds the run at its place: where it was staged it is no more."""
    values = {**RECIPE, "train": {**RECIPE["train"], "parallel": parallel}}
    recipe = parse({**values, "phases": [{**RECIPE["phases"][0], "refill": refill}]})
    with monkeypatch.context() as patch:
        patch.setattr(loop, "goes_on_before_commit", lambda *_: False)
        run_recipe(recipe, tmp_path / "whole", Output("run", quiet=True))
    start, early = loop.start_stage, []

    def begin(stage: Any, *given: Any, **named: Any) -> Any:
        if stage.name == "rollout":
            early.append([f.path.name for f in trained(tmp_path / "behind").values() if f.missing()])
        return start(stage, *given, **named)

    monkeypatch.setattr(loop, "start_stage", begin)
    run_recipe(recipe, tmp_path / "behind", Output("run", quiet=True))
    # The run waits for the rollout to have read its policy: it can't be earlier.
    assert [len(names) for names in early] == missing
    assert every_run(tmp_path / "behind") == every_run(tmp_path / "whole")


@pytest.mark.parametrize("moment", ["rollout", "score"])
def test_a_command_that_is_killed_before_the_receipt_comes_to_the_same(tmp_path: Path, moment: str) -> None:
    """Before the second rollout has begun, when nothing of it has been read, and when it is done."""
    run_recipe(parse(RECIPE), tmp_path / "whole", Output("run", quiet=True))
    with at_work(tmp_path, "one_1", killed_at=moment) as (command, _):
        assert command.wait() == -signal.SIGKILL
        ranks = [int(path.read_text()) for path in tmp_path.glob("cosmo-*/*.pid")]
        assert len(ranks) == 2
        until(lambda: not any(map(_is_rank, ranks)))
    held = trained(tmp_path / "runs")
    assert (set(held), held["one_1"].complete) == ({"one_1"}, moment == "score" and held["one_1"].complete)
    run_recipe(parse(RECIPE), tmp_path / "runs", Output("run", quiet=True))
    assert every_run(tmp_path / "runs") == every_run(tmp_path / "whole")


def test_a_run_that_fails_behind_a_rollout_is_told_in_its_own_words(tmp_path: Path) -> None:
    """A rank dies when its policy was read: the rollout is kept, and the command that is given again goes on."""
    with at_work(tmp_path, "one_1", killed_at="rank") as (command, _):
        out, err = command.communicate(timeout=PATIENCE)
        message, _ = complaint(subprocess.CompletedProcess([], command.returncode, out, err))
        assert message == "cosmo run: rank 0 was killed by SIGKILL"
    assert len([f for f in map(RunFolder.open, (tmp_path / "runs").glob("rollout-*")) if f.complete]) == 2
    run_recipe(parse(RECIPE), tmp_path / "runs", Output("run", quiet=True))
    run_recipe(parse(RECIPE), tmp_path / "whole", Output("run", quiet=True))
    assert every_run(tmp_path / "runs") == every_run(tmp_path / "whole")


def test_another_layout_has_ranks_of_its_own(tmp_path: Path, counted: dict[str, int]) -> None:
    phases = [{**RECIPE["phases"][0], "iterations": 2}, {**RECIPE["phases"][0], "name": "two", "iterations": 2}]
    phases[1]["train"] = {"parallel": "fsdp2"}
    run_recipe(parse({**RECIPE, "phases": phases}), tmp_path, Output("run", quiet=True))
    assert counted == {"started": 2, "jobs": 4}


def test_sigterm_after_the_last_step_of_a_turn_ends_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too late for a checkpoint: what is trained is kept, and no further turn is begun."""
    do = Ranks.do

    def done(ranks: Ranks, job: dict[str, Any]) -> Any:
        with ranks._sigterm_as_file():
            came_to = do(ranks, job)
            os.kill(os.getpid(), signal.SIGTERM)
        return came_to

    monkeypatch.setattr(Ranks, "do", done)
    with pytest.raises(Exception, match="stopped after one_1, which is kept") as stopped:
        run_recipe(parse(RECIPE), tmp_path, Output("run", quiet=True))
    assert stopped.value.code == 143  # type: ignore[attr-defined]
    assert [f.complete for f in trained(tmp_path).values()] == [True]
    processes.forget_signals()


def test_ranks_end_with_a_command_that_is_killed_between_turns(tmp_path: Path) -> None:
    with at_work(tmp_path, "one_1") as (command, ranks):
        command.kill()
        command.wait()
        until(lambda: not any(map(_is_rank, ranks)))


def test_a_rank_that_dies_ends_the_command_which_goes_on_when_it_is_given_again(tmp_path: Path) -> None:
    """To the same bytes as the recipe that nothing has happened to."""
    with at_work(tmp_path, "one_1") as (command, ranks):
        os.kill(ranks[0], signal.SIGKILL)
        out, err = command.communicate(timeout=PATIENCE)
        message, hint = complaint(subprocess.CompletedProcess([], command.returncode, out, err))
        assert re.fullmatch(r"cosmo run: rank [01] was killed by SIGKILL", message)
        assert "the same command goes on" in hint
        until(lambda: not any(map(_is_rank, ranks)))
    run_recipe(parse(RECIPE), tmp_path / "runs", Output("run", quiet=True))
    run_recipe(parse(RECIPE), tmp_path / "other", Output("run", quiet=True))
    one, other = trained(tmp_path / "runs"), trained(tmp_path / "other")
    assert {name: contents(f) for name, f in one.items()} == {name: contents(f) for name, f in other.items()}


@contextmanager
def at_work(tmp_path: Path, turn: str, killed_at: str = "") -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A command that has done this turn of the recipe, and its ranks; or one that kills itself or its rank 0."""
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    words = [sys.executable, "-c", COMMAND, str(tmp_path / "recipe.json"), str(tmp_path / "runs"), killed_at]
    more: Any = {"env": environment(TMPDIR=str(tmp_path)), "text": True, "cwd": tmp_path}
    command = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
    try:
        runs = tmp_path / "runs"
        if killed_at:
            yield command, []
            return
        until(lambda: command.poll() is not None or (turn in trained(runs) and trained(runs)[turn].complete))
        assert command.poll() is None, command.communicate()
        yield command, [child for child in children(command.pid) if _is_rank(child)]
    finally:
        command.kill()
        command.communicate()


COMMAND = """
import json, os, signal, sys
from pathlib import Path
from cosmo_cli.recipe import run as loop
from cosmo_cli.errors import guarded
from cosmo_cli.recipe.run import run_recipe
from cosmo_cli.recipe.schema import parse
from cosmo_cli.terminal.output import Output
from stages.models.warm import READ
start, moment, seen = loop.start_stage, sys.argv[3], []
def begin(stage, *given, resources, **named):
    if READ in resources._kept and stage.name == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    if READ in resources._kept and moment == "rank" and stage.name == "score":
        os.kill(int(next(Path(os.environ["TMPDIR"]).glob("cosmo-*/0.pid")).read_text()), signal.SIGKILL)
    return start(stage, *given, resources=resources, **named)
loop.start_stage = begin
recipe = parse(json.loads(Path(sys.argv[1]).read_text()))
sys.exit(guarded("run", lambda: run_recipe(recipe, Path(sys.argv[2]), Output("run", quiet=True))))
"""


def until(seen: Callable[[], bool]) -> None:
    """Wait for something that has to come."""
    end = time.monotonic() + PATIENCE
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.02)


def _is_rank(process: int) -> bool:
    """Whether this process is there and is a rank."""
    try:
        return b"cosmo_cli.ranks" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
