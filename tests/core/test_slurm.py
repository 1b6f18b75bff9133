"""Slurm arrays: each task finds its part, wherever the array starts and whatever its step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cosmo_cli.slurm import array_worker
from schemas.tables import PROMPTS
from stages.core.errors import UsageError
from stages.core.runs.folder import RunFolder
from tests.support.cli import complaint, cosmo, ok

PREPARE = ["prepare", "builtin", "--limit", "12", "--set", "shard_rows=2"]


def task(number: int, first: int, last: int, count: int, step: int = 1) -> dict[str, str]:
    """What Slurm puts into the environment of one task of an array."""
    values = {"ID": number, "MIN": first, "MAX": last, "COUNT": count, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("first", "last", "step"), [(0, 7, 1), (1, 8, 1), (5, 5, 1), (0, 12, 4), (3, 9, 2)], ids=lambda v: str(v)
)
def test_the_tasks_of_an_array_are_all_parts_once(first: int, last: int, step: int) -> None:
    numbers = range(first, last + 1, step)
    parts = [array_worker(task(n, first, last, len(numbers), step)) for n in numbers]
    assert parts == [(i, len(numbers)) for i in range(len(numbers))]


def test_an_array_that_ends_between_two_steps() -> None:
    """--array=0-10:4 is 0, 4 and 8; Slurm's MAX is the last task there is."""
    assert [array_worker(task(n, 0, 8, 3, 4)) for n in (0, 4, 8)] == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize("number", [1, 2, 9])
def test_a_list_with_gaps_is_refused_by_each_of_its_tasks(number: int) -> None:
    """Were one let through, its third of the shards would wait for tasks that refuse."""
    with pytest.raises(UsageError, match=f"has gaps.*SLURM_ARRAY_TASK_ID={number}, .*MAX=9"):
        array_worker(task(number, 1, 9, 3))


@pytest.mark.parametrize("left_out", ["MIN", "MAX", "COUNT"])
def test_half_an_environment_is_refused(left_out: str) -> None:
    said = task(1, 0, 3, 4)
    del said[f"SLURM_ARRAY_TASK_{left_out}"]
    with pytest.raises(UsageError, match="ID=1"):
        array_worker(said)
    assert array_worker({k: v for k, v in task(1, 0, 3, 4).items() if not k.endswith("_ID")}) is None


def test_an_array_makes_a_run_between_its_tasks(tmp_path: Path) -> None:
    done = [cosmo(*PREPARE, cwd=tmp_path, **task(n, 1, 5, 3, 2)) for n in (1, 3, 5)]
    assert [d.returncode for d in done] == [0, 0, 0]
    for n, d in enumerate(done):
        assert len(re.findall(rf"--worker {n}/3", d.stderr)) == 1, d.stderr
    # As with --worker: the folder's name comes from whoever finds it complete.
    assert [d.stdout for d in done[:2]] == ["", ""]
    assert "4 of 6 shards are left to other workers" in done[0].stderr
    folder = RunFolder.open(tmp_path / done[2].stdout.strip())
    assert len(list(folder.rows(PROMPTS))) == 12
    assert len(folder.receipts()) == 6


def test_what_was_typed_wins_and_single_jobs_take_no_part(tmp_path: Path) -> None:
    prompts = ok(*PREPARE, "--worker", "0/1", cwd=tmp_path, **task(2, 0, 3, 4))
    quiet = cosmo("rollout", prompts, "--engine", "fake", "--quiet", cwd=tmp_path, **task(0, 0, 0, 1))
    assert (quiet.returncode, quiet.stderr) == (0, "")
    # A sweep over seeds in an array trains whole policies, one a task.
    trained = ["train", prompts, "--objective", "sft", "--policy", "tiny:llama", "--dry-run"]
    assert "Slurm" not in cosmo(*trained, cwd=tmp_path, **task(2, 0, 3, 4)).stderr


def test_gaps_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = cosmo(*PREPARE, cwd=tmp_path, **task(9, 1, 9, 3))
    assert done.returncode == 2
    message, hint = complaint(done)
    assert "SLURM_ARRAY_TASK_ID=9" in message
    assert "--array=0-7" in hint
    assert not (tmp_path / "runs").exists()
