"""What of executors needs no cluster; Ray itself is in tests/engines_real/test_ray.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.config import as_dict
from stages.core.errors import CosmoError, UnavailableError, UsageError
from stages.core.executors.ray.worker import Outcome, Task, Worker, portable
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from tests.support.cli import ROOT, complaint, cosmo, environment
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
    assert "would do 1 of 1 shard in runs/prepare-" in said.pop()


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


def test_a_recipe_hands_out_what_can_be() -> None:
    run = ["run", "examples/mini_cosmo/recipe.toml", "--dry-run", "--executor", "ray", "--set", "executor.workers=2"]
    done = cosmo(*run, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        spread = line.split("=$(cosmo ")[1].split()[0] in ("prepare", "rollout", "score")
        assert ("--executor ray" in line) is spread
        assert ("--set executor.workers=2" in line) is spread
    done = cosmo(*run[:3], "--executor", "rya", cwd=ROOT)
    assert done.returncode == 2
    assert complaint(done)[0].endswith("unknown executor 'rya'")


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


def worker_for(folder: RunFolder, cwd: Path) -> Outcome:
    """What a worker on another machine says, which sees that folder as its command's."""
    task = Task(
        stage="tests.support.toy:ToyStage",
        config=as_dict(ToyConfig()),
        inputs=[],
        folder=str(folder.path.relative_to(folder.path.parents[1])),
        fingerprint=folder.fingerprint,
        cwd=str(cwd),
        rejected=[],
        environment={},
    )
    return Worker(task, 1, mailbox=None).ready()


def test_a_worker_without_the_same_files_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_stage(ToyStage(), ToyConfig(), [], options=Options(runs=tmp_path / "here" / "runs"))
    [path] = (tmp_path / "here" / "runs").iterdir()
    folder = RunFolder.open(path)
    assert worker_for(folder, tmp_path / "here").error is None
    # Another disk at the same path: no folder, or a folder of the same name with another plan in it.
    (tmp_path / "there" / "runs" / path.name).mkdir(parents=True)
    for cwd in (tmp_path / "gone", tmp_path / "there"):
        error = worker_for(folder, cwd).error
        assert isinstance(error, UnavailableError)
        assert f"does not see {cwd / 'runs' / path.name}" in error.message
        assert "same file system" in error.hint
    manifest = tmp_path / "there" / "runs" / path.name / "manifest.json"
    manifest.write_text((path / "manifest.json").read_text().replace(folder.fingerprint, "0" * 64))
    assert isinstance(worker_for(folder, tmp_path / "there").error, UnavailableError)


class Unportable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize(
    ("error", "code"), [(CosmoError("a", "b"), 1), (UsageError("a", "b"), 2), (UnavailableError("a", "b"), 4)]
)
def test_errors_travel_whole(error: CosmoError, code: int) -> None:
    there = portable(error)
    assert isinstance(there, type(error))
    assert (there.message, there.hint, there.code) == ("a", "b", code)


def test_an_error_that_can_not_travel_is_told(tmp_path: Path) -> None:
    assert repr(portable(Unportable(1, 2))) == "RuntimeError('Unportable: 1 and 2')"
    missing = portable(FileNotFoundError(2, "No such file or directory", "x.parquet"))
    assert isinstance(missing, FileNotFoundError)
    assert missing.filename == "x.parquet"
