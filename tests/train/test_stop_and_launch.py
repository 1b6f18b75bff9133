"""A launcher and its ranks: they end with it, hear its wish before they train, and meet no other run's."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stages.core.stage import Context, Resources, Silent
from stages.train.config import TrainConfig
from stages.train.launching.launch import settings
from stages.train.launching.stop import STOP, StoppedError, listening
from tests.support.cli import PATIENCE, environment

LAUNCHED = """
import os, subprocess, sys
command = ["-m", "cosmo_cli.ranks", "train", sys.argv[1], str(os.getpid())]
rank = subprocess.Popen([sys.executable, *command], env={**os.environ, "LOCAL_RANK": "0"})
print(rank.pid, flush=True)
rank.wait()
"""
WAITING = """
import fcntl, os, sys
from pathlib import Path
from stages.core.resources import Resources
from stages.train.processes import jobs
os.environ["LOCAL_RANK"] = "0"
next(jobs(Path(sys.argv[2]), os.getppid(), Resources()))
print("waiting", flush=True)
fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX)
"""


def test_a_rank_ends_with_its_launcher_that_was_killed(tmp_path: Path) -> None:
    """Its folder has no job for it: it would wait for ever. Its stdout closes when it ends."""
    command = [sys.executable, "-c", LAUNCHED, str(tmp_path)]
    launcher = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    rank = int(launcher.stdout.readline())
    launcher.kill()
    launcher.wait()
    try:
        assert launcher.communicate(timeout=PATIENCE)[0] == ""
    except subprocess.TimeoutExpired:
        os.kill(rank, signal.SIGKILL)
        raise AssertionError("the rank lives on") from None


def test_a_rank_that_waits_for_a_lock_hears_that_it_is_to_stop(tmp_path: Path) -> None:
    (tmp_path / "job-0.json").write_text('{"hand_over": false}')
    command = [sys.executable, "-c", WAITING, str(tmp_path / "lock"), str(tmp_path)]
    with open(tmp_path / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waiting\n"
        (tmp_path / "stop").touch()
        try:
            assert "StoppedError: stopped before the first step" in waiting.communicate(timeout=PATIENCE)[1]
        finally:
            waiting.kill()


def _kill_myself(swallow: bool) -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except StoppedError:
        if not swallow:
            raise
        raise ValueError("this model can't be loaded") from None


@pytest.mark.parametrize("swallow", [False, True])
def test_sigterm_while_a_model_is_loaded_is_heard(swallow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not the loader takes it for an error of its own; nothing is trained."""
    from stages.train import setup
    from stages.train.objectives.base import Objective
    from stages.train.stage import train

    monkeypatch.setattr(setup, "open_session", lambda *_: _kill_myself(swallow))
    monkeypatch.setattr(Objective, "start_policy", lambda *_: None)
    before = signal.getsignal(signal.SIGTERM)
    context: Any = Context(TrainConfig(objective="sft"), [], Silent(), Resources())
    with pytest.raises(StoppedError, match="before the first step"):
        train(context, {}, None)  # type: ignore[arg-type]
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_within_a_step_is_only_noted() -> None:
    with listening():
        STOP.at_once = False
        os.kill(os.getpid(), signal.SIGTERM)
        assert STOP.asked
    STOP.signalled = False


def test_another_run_at_the_same_address_is_another_meeting(tmp_path: Path) -> None:
    config = TrainConfig(nnodes=2, rdzv="node0:29500")
    ids = [settings(config, str(tmp_path), run).run_id for run in ("3f", "3f", "9a")]
    assert ids[0] == ids[1] != ids[2]
