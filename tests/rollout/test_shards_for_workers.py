"""A rollout's shards fit the workers that share it, and nothing else of the run depends on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from schemas.tables import PROMPTS, ROLLOUTS
from schemas.values import text_message
from stages.core.atomic import create_json, read_json
from stages.core.config import build
from stages.core.executors.local import LocalExecutor
from stages.core.runner import Options, Result, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.runs.shards import ShardFile
from stages.rollout.config import RolloutConfig
from stages.rollout.stage import STAGE

GROUPS = 10


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in") / "00000.parquet"
    file = ShardFile(path, PROMPTS)
    for n in range(GROUPS):
        messages = [text_message("user", f"number {n}")]
        key = prompt_id(label="general", messages=messages, images=[], answer=None)
        file.add(PromptRow(id=key, label="general", source="made", task="made", messages=messages))
    file.close()
    return path


def roll(prompts: Path, runs: Path, worker: tuple[int, int] = (0, 1), **values: object) -> Result:
    config = build(RolloutConfig, {"engine": "fake", "samples": 2, "max_new_tokens": 4, **values}, "rollout")
    return run_stage(STAGE, config, [prompts], options=Options(runs=runs, worker=worker))


def sizes(path: Path) -> list[int]:
    return [len(shard["entries"]) for shard in RunFolder.open(path).manifest.shards]


def test_each_worker_has_a_shard_and_the_run_is_the_same_one(prompts: Path, tmp_path: Path) -> None:
    alone = roll(prompts, tmp_path / "alone")
    assert sizes(alone.path) == [GROUPS]
    states = [roll(prompts, tmp_path / "four", (n, 4)).state for n in range(4)]
    assert states == ["waiting", "waiting", "waiting", "done"]
    shared = roll(prompts, tmp_path / "four")
    assert (shared.state, shared.fingerprint) == ("cached", alone.fingerprint)
    assert sizes(shared.path) == [3, 3, 3, 1]
    rows = [list(RunFolder.open(path).rows(ROLLOUTS)) for path in (alone.path, shared.path)]
    assert rows[0] == rows[1]


def test_a_run_is_ended_as_it_was_cut_when_it_began(prompts: Path, tmp_path: Path) -> None:
    begun = roll(prompts, tmp_path, (1, 4))
    assert (begun.state, begun.shards, begun.shards_done) == ("waiting", 4, 1)
    ended = roll(prompts, tmp_path)
    assert (ended.state, ended.shards, ended.rows, ended.path) == ("done", 4, GROUPS, begun.path)


def test_shards_are_never_larger_than_asked_for(prompts: Path, tmp_path: Path) -> None:
    assert sizes(roll(prompts, tmp_path, (0, 2), shard_groups=2).path) == [2] * 5


def test_an_executor_says_how_many_it_has(prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalExecutor, "workers", lambda *_: 5)
    assert sizes(roll(prompts, tmp_path).path) == [2] * 5


def test_a_plan_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    assert [create_json(path, {"n": n}) for n in range(2)] == [True, False]
    assert read_json(path) == {"n": 0}
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]
