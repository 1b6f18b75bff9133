"""`cosmo run` commits a turn's policy while the next rollout runs: the same rows and weights, also after kills."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import cosmo_cli.recipe.run as loop
from cosmo_cli.recipe.schema import parse
from cosmo_cli.terminal.output import Output
from schemas.tables import SCORED
from stages.core.runner import Options, Started, start_stage
from stages.core.runs.behind import Behind
from stages.core.runs.folder import RunFolder
from stages.train.config import TrainConfig
from stages.train.stage import STAGE
from tests.support.dying import killed_at
from tests.support.varied import NAME
from tests.train.made import every_run, scored_group, train, write_shard

SETTINGS = {"policy": "tiny:llama", "learning_rate": 1e-3, "updates_per_rollout": 2, "drop_flat_groups": False}
RECIPE: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "policy": "tiny:qwen2_5_vl",
    "prepare": {"sources": [{"name": "builtin", "train": 40, "test": 10}]},
    "rollout": {"samples": 2, "max_new_tokens": 3},
    "score": {"rewards": {"general": {"terms": {NAME: 1.0}}}},
    "train": {"updates_per_rollout": 1, "learning_rate": 1e-3, "drop_flat_groups": False},
    "phases": [{"name": "one", "iterations": 2, "prompts": 2, "labels": {"general": 1.0}}],
    # Older weights go when a turn counts as done, and no sooner.
    "retention": {"policies": 1},
}


# A turn's training, and what a kill in the midst of its commit leaves.


@pytest.fixture(scope="module")
def scored(policies, tmp_path_factory):  # type: ignore[no-untyped-def]
    rows = [scored_group(policies("llama"), i, images=False) for i in range(4)]
    return write_shard(tmp_path_factory.mktemp("inputs") / "s.parquet", SCORED, rows)


def train_behind(scored: Path, runs: Path) -> None:
    torch.set_num_threads(1)
    config = TrainConfig(**{"device": "cpu", **SETTINGS})
    start_stage(STAGE, config, [scored], options=Options(runs=runs), behind=Behind()).finish()


def test_killed_at_random_moments_of_the_commit_it_ends_with_the_same_rows_and_weights(
    scored: Path, tmp_path: Path
) -> None:
    train(scored, tmp_path / "whole", **SETTINGS)
    whole = every_run(tmp_path / "whole")
    operations = killed_at(-1, train_behind, scored, tmp_path / "behind")
    assert every_run(tmp_path / "behind") == whole
    assert operations is not None
    # Rows, policy and trainer's state synced, the receipt synced and linked, and all of them given their names.
    assert operations > 12
    for n in random.Random(5).sample(range(operations), 3):
        runs = tmp_path / f"cut{n}"
        assert killed_at(n, train_behind, scored, runs) is None
        train(scored, runs, **SETTINGS)
        assert every_run(runs) == whole, n


# The loop.


def run(runs: Path) -> dict[str, Any]:
    loop.run_recipe(parse(RECIPE), runs, Output("run", quiet=True))
    return every_run(runs)


def test_the_next_rollout_comes_before_the_receipt_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "goes_on_before_commit", lambda *_: False)
        whole = run(tmp_path / "whole")
    scoring, early = threading.Event(), []
    plain_start = Behind.start

    def late(self: Behind, work: Any) -> None:
        scoring.clear()

        def waits() -> None:
            assert scoring.wait(timeout=600)
            work()

        plain_start(self, waits)

    def begin(stage: Any, *given: Any, **named: Any) -> Started:
        if stage.name == "score":
            early.append([path.name for path in tmp_path.glob("behind/train-*") if RunFolder.open(path).missing()])
            scoring.set()
        return start_stage(stage, *given, **named)

    monkeypatch.setattr(Behind, "start", late)
    monkeypatch.setattr(loop, "start_stage", begin)
    assert run(tmp_path / "behind") == whole
    # The first turn's is in hand when the second one's rollout is done.
    assert [len(names) for names in early] == [0, 1]
