"""How far a rollout is: one count over all its shards, which moves while the first batch is being drawn."""

from __future__ import annotations

import pytest

from cosmo_cli.terminal.output import Output
from cosmo_cli.terminal.progress import PlainProgress
from schemas.tables import PROMPTS
from stages.core.config import build
from stages.core.runner import Options, run_stage
from stages.core.stage import Silent
from stages.core.stage_list import load_config, load_stage
from tests.train.made import prompt_row, write_shard


class Recorded(Silent):
    """All calls in order."""

    def __init__(self) -> None:
        self.calls = []

    def start(self, what, total, unit):
        self.calls.append((what, total, unit))

    def advance(self, n=1, **numbers):
        self.calls.append((n, numbers))


def rolled(tmp_path, engine, **settings):
    shard = write_shard(tmp_path / "p.parquet", PROMPTS, [prompt_row(i, images=False) for i in range(5)])
    progress = Recorded()
    values = {"engine": engine, "samples": 4, "max_new_tokens": 12, "shard_groups": 2, **settings}
    config = build(load_config("rollout"), values, "rollout")
    run_stage(load_stage("rollout"), config, [shard], options=Options(tmp_path / "runs"), progress=progress)
    return progress.calls


@pytest.mark.parametrize(("engine", "policy"), [("fake", None), ("transformers", "tiny:llama")])
def test_all_shards_are_one_count(tmp_path, engine, policy):
    calls = rolled(tmp_path, engine, **({"policy": policy, "device": "cpu"} if policy else {}))
    begun = [call for call in calls if call[0] == "rollout"]
    assert begun == [("rollout", 5, "groups")] * 3
    assert sum(call[0] for call in calls if isinstance(call[0], int)) == 5
    assert calls[-1][1]["completions"] == "20/20"


def test_it_moves_before_the_first_group_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("stages.rollout.shown._EVERY", 0.0)
    calls = rolled(tmp_path, "transformers", policy="tiny:llama", device="cpu")
    moves = [call for call in calls if isinstance(call[0], int)]
    before = moves[: next(at for at, (n, _) in enumerate(moves) if n)]
    assert len(before) > 3
    counts = [int(numbers["completions"].split("/")[0]) for _, numbers in moves]
    assert counts == sorted(counts)
    assert all(numbers["tokens_per_second"] > 0 for _, numbers in moves)
    assert calls[0][0].startswith("loading ")


def test_the_very_same_start_goes_on_counting(capsys, monkeypatch):
    monkeypatch.setattr(PlainProgress, "every", 0.0)
    progress = PlainProgress(Output("rollout"))
    for _ in range(2):
        progress.start("rollout", 4, "groups")
        progress.advance(2, completions="8/16")
    progress.start("rollout", 9, "groups")
    progress.advance(0)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "rollout: rollout 2/4 groups", "rollout: rollout 4/4 groups", "rollout: rollout 0/9 groups",
    ]  # fmt: skip
    # Nothing is done yet: no speed of nothing.
    assert "/s" not in lines[2]
