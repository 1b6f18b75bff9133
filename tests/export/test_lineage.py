"""Lineage: every run behind a policy, its base, and the settings told once."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.tables import STEPS
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.export.lineage import lineage_of, public, settings
from tests.export.made import MadeConfig, MadeStage, step_row, train_run


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    folder = tmp_path / "some_policy"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_the_walk_follows_policies_to_the_base(tmp_path: Path, policy: Path) -> None:
    runs = tmp_path / "runs"
    first = train_run(runs, policy, start="Org/Base-7B")
    last = train_run(runs, policy, start=str(first.path), objective="rl", draw=1)
    found = lineage_of(last)
    assert [r.stage for r in found.runs] == ["prepare", "train", "train"]
    assert found.runs[-1].fingerprint == last.fingerprint
    assert found.base == "Org/Base-7B"
    assert found.hub_base == "Org/Base-7B"


def test_runs_moved_together_are_still_found(tmp_path: Path, policy: Path) -> None:
    first = train_run(tmp_path / "runs", policy, start="tiny:llama")
    last = train_run(tmp_path / "runs", policy, start=str(first.path), draw=1)
    (tmp_path / "runs").rename(tmp_path / "moved")
    found = lineage_of(RunFolder.open(tmp_path / "moved" / last.path.name))
    assert len(found.runs) == 3
    assert found.base == "tiny:llama"
    assert found.hub_base is None


def test_a_long_loop_is_no_recursion(tmp_path: Path, policy: Path) -> None:
    runs, start = tmp_path / "runs", "tiny:llama"
    for n in range(40):
        stage = MadeStage("train", STEPS, [step_row(1)])
        start = str(run_stage(stage, MadeConfig(policy=start, draw=n), [], options=Options(runs=runs)).path)
    import sys

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(__import__("inspect").stack()) + 35)
    try:
        found = lineage_of(RunFolder.open(Path(start)))
    finally:
        sys.setrecursionlimit(limit)
    assert len(found.runs) == 40
    (kind, lines, count) = settings(found.runs)[0]
    assert (kind, count) == ("train (sft)", 40)
    assert 'objective = "sft"' in lines
    assert "draw varies: null, 1, 2, ... (40 values)" in lines or "draw varies: 0, 1, 2, ... (40 values)" in lines


def test_machine_paths_are_cut() -> None:
    assert public("/home/someone/secret/data.jsonl") == ".../data.jsonl"
    assert public(["~/x/y", "plain", "../up/one"]) == [".../y", "plain", ".../one"]
    assert public(3) == 3
