"""reward_model: a model that `cosmo train --objective reward` made, asked by the real command."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.scored import Grade, ScoredGroup, grade_of
from schemas.tables import SCORED
from stages.core.errors import UnavailableError, UsageError
from stages.core.registry import load
from stages.core.runs.folder import RunFolder
from stages.core.stage_list import load_stage
from stages.models.load import load_reward_model
from stages.models.policy_ref import resolve_policy
from stages.score.config import RewardModelTable, ScoreConfig
from stages.score.models import reward_scores
from stages.score.models.reward_scores import scalars, sequences
from tests.models.made import policy
from tests.score.made import group, on_disk, score, scored
from tests.support.preloaded import ok
from tests.train.made import scored_group, train, write_shard
from tests.train.test_train_reward import reds

FAST = {"objective": "reward", "policy": "tiny:llama", "learning_rate": 1e-2, "batch_size": 8, "steps": 6}


@pytest.fixture(scope="module")
def groups() -> list[ScoredGroup]:
    return [reds(policy("tiny:llama"), i) for i in range(24)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, groups: list[ScoredGroup]) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    return train(write_shard(folder / "scored.parquet", SCORED, groups[:16]), folder, **FAST).path


@functools.cache
def saved(run: Path) -> Any:
    """The saved model through transformers alone."""
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(run / "policy").eval()


def forward(run: Path, row: Any, text: str) -> float:
    """Its number for one completion, no padding."""
    processor = policy("tiny:llama").processor
    ids = processor.encode(row.messages, []).token_ids + processor.encode_completion(text)
    with torch.no_grad():
        return float(saved(run)(input_ids=torch.tensor([ids])).logits[0, 0])


def grades(folder: RunFolder) -> list[tuple[Any, Any, Grade]]:
    found = [(g, c, grade_of(c, "reward_model")) for g in scored(folder) for c in g.completions]
    return [(g, c, grade) for g, c, grade in found if grade is not None]


def test_the_command_grades_with_the_models_own_numbers(
    tmp_path: Path, trained: Path, groups: list[ScoredGroup]
) -> None:
    imaged = scored_group(policy("tiny:qwen2_5_vl"), 50, g=2)
    shard = write_shard(tmp_path / "scored.parquet", SCORED, [*groups[16:20], imaged])
    (tmp_path / "recipe.toml").write_text(
        f"[score.rewards.general]\ncombine = 'replace'\nterms = {{ reward_model = 2.0 }}\n"
        f"[score.reward_model]\npolicy = '{trained}'\ndevice = 'cpu'\nbatch_tokens = 40\n"
    )
    first = ok("score", shard, "--config", "recipe.toml", cwd=tmp_path)
    found = grades(RunFolder.open(first))
    assert len(found) == 18
    numbers = []
    for row, completion, grade in found:
        if row.images:
            assert (grade.status, grade.value, completion.reward) == ("not_applicable", None, None)
            assert "reads text only" in (grade.reason or "")
            continue
        numbers.append(forward(trained, row, completion.text))
        assert grade.value == pytest.approx(1 / (1 + math.exp(-numbers[-1])), abs=1e-5)
        assert completion.reward == pytest.approx(2 * grade.value)
        assert float(grade.seen or "nan") == pytest.approx(numbers[-1], abs=1e-4)
    assert max(numbers) - min(numbers) > 1e-2, "a trained head tells replies apart"
    # The same again is there already; raw numbers are another run, and keep no grade of the first.
    assert ok("score", shard, "--config", "recipe.toml", cwd=tmp_path) == first
    table = RewardModelTable(policy=str(trained), device="cpu", value="raw")
    raw = score(tmp_path / "raw", first, also=["reward_model"], reward_model=table)
    values = [grade.value for row, _, grade in grades(raw) if not row.images]
    assert values == pytest.approx(numbers, abs=1e-5)


def test_what_is_no_reward_model_is_refused(tmp_path: Path, groups: list[ScoredGroup]) -> None:
    shard = write_shard(tmp_path / "scored.parquet", SCORED, groups[:1])
    for name in ("tiny:llama", "tiny:qwen2_5_vl"):
        with pytest.raises(UsageError, match="is no reward model") as caught:
            score(tmp_path, shard, also=["reward_model"], reward_model=RewardModelTable(policy=name, device="cpu"))
        assert "--objective reward" in caught.value.hint
    with pytest.raises(UsageError, match="needs a model") as caught:
        load("verifier", "reward_model")(ScoreConfig())
    assert "reward_model.policy" in caught.value.hint
    with pytest.raises(UnavailableError, match="no such model"):
        load("verifier", "reward_model")(ScoreConfig(reward_model=RewardModelTable(policy="nowhere")))


def test_another_model_makes_the_grades_stale(tmp_path: Path, trained: Path, groups: list[ScoredGroup]) -> None:
    other = train(write_shard(tmp_path / "s.parquet", SCORED, groups[:16]), tmp_path, **{**FAST, "steps": 2}).path

    def table(path: Path, **more: Any) -> RewardModelTable:
        return RewardModelTable(policy=str(path), device="cpu", **more)

    def identity(given: RewardModelTable) -> dict[str, Any]:
        return dict(load("verifier", "reward_model")(ScoreConfig(reward_model=given)).identity)

    assert identity(table(trained)) == identity(table(trained, batch_tokens=7)) == identity(table(trained / "policy"))
    assert len({str(identity(t)) for t in (table(trained), table(other), table(trained, value="raw"))}) == 3
    rows = on_disk(tmp_path, [group("red", "blue", question="what colour ?", answer="red")])
    first = score(tmp_path, rows, also=["reward_model"], reward_model=table(trained))
    second = score(tmp_path, first.path, also=["reward_model"], reward_model=table(other))
    before, after = grades(first), grades(second)
    assert first.path != second.path
    assert {g.version for *_, g in before}.isdisjoint({g.version for *_, g in after})
    assert [g.value for *_, g in before] != [g.value for *_, g in after]


def test_batches_do_not_matter(trained: Path, groups: list[ScoredGroup]) -> None:
    model = load_reward_model(resolve_policy(str(trained)), device="cpu", new_head=False)
    rows = [ids for g in groups[:3] for ids in sequences(model, g, [c.text for c in g.completions])]
    one = scalars(model, rows, 1)
    assert scalars(model, rows, 10**6) == pytest.approx(one, abs=1e-5)
    assert scalars(model, rows[::-1], 60) == pytest.approx(one[::-1], abs=1e-5)
    assert scalars(model, [], 60) == []


def test_a_batch_that_fails_is_halved_and_the_closing_line_says_so(
    tmp_path: Path, trained: Path, groups: list[ScoredGroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a row that fails alone the grade is an error, of all others the number; a run from the cache says it too."""
    plain = reward_scores._forward
    bad = policy("tiny:llama").processor.encode_completion(groups[20].completions[0].text)

    def crowded(model: Any, rows: list[list[int]]) -> list[float]:
        if len(rows) > 2 or any(row[-len(bad) :] == bad for row in rows):
            raise RuntimeError("too many rows")
        return plain(model, rows)

    shard = write_shard(tmp_path / "scored.parquet", SCORED, groups[20:22])
    settings = {"also": ["reward_model"], "reward_model": RewardModelTable(policy=str(trained), device="cpu")}
    whole = score(tmp_path / "whole", shard, **settings)
    monkeypatch.setattr(reward_scores, "_forward", crowded)
    halved = score(tmp_path / "halved", shard, **settings)
    found = [grade for *_, grade in grades(halved)]
    failures = [grade for grade in found if grade.status == "error"]
    assert {grade.reason for grade in failures} == {"too many rows"}
    assert 0 < len(failures) < len(found)
    for (*_, one), other in zip(grades(whole), found, strict=True):
        assert other.status == "error" or other.value == pytest.approx(one.value, abs=1e-5)
    quality = load_stage("score").quality(halved)
    [(reason, count)] = quality.numbers["halved_batches"].items()
    assert reason == "too many rows"
    assert f"; {count} batches failed and were graded in halves ({count} {reason})" in quality.line
    assert quality.numbers["halved_seconds"] >= 0
    assert "halved" not in load_stage("score").quality(whole).line
    assert "halved_batches" not in load_stage("score").quality(whole).numbers


def test_a_batch_holds_no_more_positions_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows are padded to the longest; one that is too long by itself goes alone."""
    batches: list[list[int]] = []

    def forward(_: Any, rows: list[list[int]]) -> list[float]:
        batches.append([len(row) for row in rows])
        return [float(len(row)) for row in rows]

    monkeypatch.setattr(reward_scores, "_forward", forward)
    lengths = [3, 9, 1, 4, 30, 2, 5, 1]
    model: Any = None
    assert scalars(model, [[0] * n for n in lengths], 12) == lengths
    assert all(len(batch) == 1 or max(batch) * len(batch) <= 12 for batch in batches)
    assert len(batches) < len(lengths)


def test_a_number_that_is_none_is_an_error_and_no_zero(trained: Path) -> None:
    from stages.core.runs.halved import Halved
    from stages.score.verifiers.base import Ungraded
    from stages.score.verifiers.reward_model import _RewardModel

    model = load_reward_model(resolve_policy(str(trained)), device="cpu", new_head=False)
    with torch.no_grad():
        model.model.get_parameter("score.weight").fill_(float("nan"))
    row = group("red", question="what colour ?")
    (judgements,) = _RewardModel(RewardModelTable(), model, Halved()).grade_groups([Ungraded(row, row.completions)])
    assert [(j.status, j.value) for j in judgements] == [("error", None)]
