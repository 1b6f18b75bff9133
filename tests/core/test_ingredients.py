"""What identifies a run: each ingredient changes the fingerprint, and what can't change a row does not."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.tables import PROMPTS, ROLLOUTS
from stages.core import runner
from stages.core.config import build
from stages.core.runner import Options, run_stage
from stages.core.stage import Context, Plan, Stage
from stages.rollout.stage import STAGE as ROLLOUT
from tests.support.toy import PromptReader, ToyConfig, ToyStage


class Bent(ToyStage):
    """The toy, with one thing at a time another."""

    def __init__(self, name: str = "toy", version: int = 1, table: Any = PROMPTS, **key: Any) -> None:
        self.name, self.version, self.table, self._key = name, version, table, key

    def plan(self, ctx: Context) -> Plan:
        plan = super().plan(ctx)
        return dataclasses.replace(plan, key={**plan.key, **self._key.get("key", {})}, **self._key.get("plan", {}))


def planned(stage: Stage, config: Any, inputs: list[Path], runs: Path, **options: Any) -> str:
    return run_stage(stage, config, inputs, options=Options(runs=runs, dry_run=True, **options)).fingerprint


PLAIN = ToyConfig()
OTHERS: dict[str, tuple[str, Callable[[], Stage], ToyConfig]] = {
    "the stage": ("stage", lambda: Bent(name="other"), PLAIN),
    "the stage's version": ("version", lambda: Bent(version=2), PLAIN),
    "the table": ("table", lambda: Bent(table=ROLLOUTS), PLAIN),
    "the table's version": (
        "table",
        lambda: Bent(table=dataclasses.replace(PROMPTS, version=PROMPTS.version + 1)),
        ToyConfig(),
    ),
    "a config that can change rows": ("config", Bent, ToyConfig(rows=6)),
    "a plugin's identity": ("plan", lambda: Bent(key={"loss": ["cpgd", "0f1e"]}), PLAIN),
    "the policy": ("plan", lambda: Bent(key={"policy": "0123456789abcdef"}), PLAIN),
    "the work of a shard": ("shards", lambda: Bent(plan={"shards": [{"shard": i, "of": 4} for i in range(4)]}), PLAIN),
    "the order of shards": ("shards", lambda: Bent(plan={"shards": [{"shard": i} for i in (1, 0, 2, 3)]}), PLAIN),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_each_ingredient_changes_the_fingerprint(other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingredient, stage, config = OTHERS[other]
    assert planned(Bent(), ToyConfig(), [], tmp_path) != planned(stage(), config, [], tmp_path)
    # It is this ingredient that tells them apart: where it is dropped, they are one.
    whole = runner.identity
    monkeypatch.setattr(runner, "identity", lambda *given: {k: v for k, v in whole(*given).items() if k != ingredient})
    assert planned(Bent(), ToyConfig(), [], tmp_path) == planned(stage(), config, [], tmp_path)


def test_inputs_their_order_and_what_is_missing_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(name: str, config: ToyConfig, **options: Any) -> Path:
        return run_stage(ToyStage(), config, [], options=Options(runs=tmp_path / name, **options)).path

    one, other = made("runs", ToyConfig()), made("runs", ToyConfig(rows=6))
    halves = [made(f"half{i}", ToyConfig(), worker=(i, 2)) for i in range(2)]

    def reads(*inputs: Path) -> str:
        return planned(PromptReader(), ToyConfig(), list(inputs), tmp_path, partial=True)

    assert len({reads(one), reads(other), reads(one, other), reads(other, one), reads(one, one)}) == 5
    # A part of a run is another input than the whole, and than its other part.
    assert len({reads(one), *map(reads, halves)}) == 3
    whole = runner.identity
    for ingredient, left in (("inputs", (one, other)), ("partial", tuple(halves))):
        monkeypatch.setattr(
            runner, "identity", lambda *given, drop=ingredient: {k: v for k, v in whole(*given).items() if k != drop}
        )
        assert len({reads(path) for path in left}) == 1


def test_what_can_not_change_a_row_is_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = planned(Bent(), ToyConfig(), [], tmp_path)
    same = {
        planned(Bent(), ToyConfig(delay=0.5, fail_at=2), [], tmp_path),
        planned(Bent(plan={"provenance": {"host": "a"}}), ToyConfig(), [], tmp_path),
        planned(Bent(plan={"rejected": []}), ToyConfig(), [], tmp_path),
        planned(Bent(), ToyConfig(), [], tmp_path / "elsewhere", worker=(1, 3), partial=True, name="a name"),
    }
    monkeypatch.chdir(tmp_path)
    assert {*same, planned(Bent(), ToyConfig(), [], Path("runs"))} == {first}


def test_an_input_is_told_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    made = run_stage(ToyStage(), ToyConfig(), [], options=Options(runs=tmp_path / "a")).path
    (tmp_path / "b").mkdir()
    before = planned(PromptReader(), ToyConfig(), [made], tmp_path)
    os.rename(made, tmp_path / "b" / "renamed")
    assert planned(PromptReader(), ToyConfig(), [tmp_path / "b" / "renamed"], tmp_path) == before


def test_a_rollout_is_told_by_its_policy_and_its_seeds(tmp_path: Path) -> None:
    prompts = run_stage(ToyStage(), ToyConfig(), [], options=Options(runs=tmp_path)).path

    def policy(name: str, weights: bytes) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(weights)
        return folder

    def sampled(**values: Any) -> str:
        config = build(ROLLOUT.config, {"engine": "fake", "samples": 2, **values}, "rollout")
        return planned(ROLLOUT, config, [prompts], tmp_path)

    one, same, other = policy("one", b"w"), policy("same", b"w"), policy("other", b"v")
    assert sampled(policy=str(one)) == sampled(policy=str(same))
    others = [
        sampled(),
        sampled(policy=str(one)),
        sampled(policy=str(other)),
        sampled(seed=1),
        sampled(samples=3),
        sampled(select={"take": 3}),
        sampled(select={"take": 3, "seed": 1}),
        sampled(select={"take": 3, "draw": 1}),
    ]
    assert len(set(others)) == len(others)
