"""What of executors needs no cluster; Ray itself is in tests/engines_real/test_ray.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.errors import UsageError
from stages.core.runner import Options, run_stage
from tests.support.cli import complaint, cosmo, environment
from tests.support.toy import ToyConfig, ToyStage

PREPARE = ["prepare", "builtin", "--limit", "4"]
# What an environment without Ray sees, wherever this runs.
WITHOUT_RAY = "import sys; sys.modules['ray'] = None; from cosmo_cli.app import main; sys.exit(main(sys.argv[1:]))"


def test_without_ray_it_is_unavailable_and_says_what_to_install(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_RAY, *PREPARE, "--executor", "ray"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 4
    message, hint = complaint(done)
    assert "Ray is not installed" in message
    assert hint == "pip install 'cosmo-rl[ray]'"


def test_who_does_the_shards_is_no_part_of_a_runs_name(tmp_path: Path) -> None:
    said = {
        cosmo(*PREPARE, "--dry-run", *more, cwd=tmp_path).stderr
        for more in ([], ["--executor", "ray"], ["--executor", "ray", "--set", "executor.cpus=4"])
    }
    assert len(said) == 1
    assert "would do 1 of 1 shards in runs/prepare-" in said.pop()


@pytest.mark.parametrize(
    ("more", "message", "hint"),
    [
        (["--executor", "rya"], "unknown executor 'rya'", "did you mean 'ray'?"),
        (["--executor", "ray", "--set", "executor.cpu=1"], "unknown key 'cpu' in [executor]", "did you mean 'cpus'?"),
        (["--executor", "ray", "--set", "executor.workers=-1"], "executor.workers = -1", "the smallest is 0"),
        (["--set", "executor.workers=2"], "executor.workers=2: the executor local has no settings", "--executor ray"),
        (["--set", "executor=ray"], "unknown key 'executor' in [prepare]", "known keys"),
    ],
)
def test_mistakes_are_named(more: list[str], message: str, hint: str, tmp_path: Path) -> None:
    done = cosmo(*PREPARE, *more, cwd=tmp_path)
    assert done.returncode == 2
    said, hinted = complaint(done)
    assert message in said
    assert hint in hinted


@pytest.mark.parametrize("verb", ["train", "eval", "export"])
def test_stages_of_one_piece_have_no_executor(verb: str, tmp_path: Path) -> None:
    done = cosmo(verb, "runs/x", "--executor", "ray", cwd=tmp_path)
    assert done.returncode == 2
    message, hint = complaint(done)
    assert "--executor" in message
    assert hint == f"cosmo {verb} --help"


def test_a_wrong_executor_is_said_of_a_cached_run_too(tmp_path: Path) -> None:
    run_stage(ToyStage(), ToyConfig(), [], options=Options(runs=tmp_path))
    with pytest.raises(UsageError, match="unknown executor"):
        run_stage(ToyStage(), ToyConfig(), [], options=Options(runs=tmp_path, executor="slurm"))
