"""A teacher's descriptions, graded by judges and rules, and imitated where they reach the bar."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from schemas.arrow import hints
from schemas.prompts import PromptRow
from schemas.rollouts import RolloutGroup
from schemas.tables import ROLLOUTS, SCORED
from stages.core.config import build
from stages.core.errors import InputError
from stages.core.registry import load
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.judging.parsed import DESCRIBE, parse_completion
from stages.judging.prompt import load_prompt, part_of
from stages.prepare.augmentations.base import words
from stages.score.config import ScoreConfig
from stages.score.stage import STAGE
from stages.train.config import TrainConfig
from stages.train.supervised.rewarded import as_example, rewarded_entries, rewarded_order
from tests.eval.made import run_of
from tests.score.made import completion
from tests.support.cli import ROOT
from tests.support.server import Body, choice, serving, words_of
from tests.support.server import completion as answer
from tests.train.made import prompt_row, rejects, steps, train

RECIPE = tomllib.loads((ROOT / "examples" / "vtperception" / "clean.toml").read_text(encoding="utf-8"))
GOOD = "<description> two stars . </description> <think> so 2 . </think> <answer> 2 </answer>"
BLIND = GOOD.replace("two stars", "a picture")
WRONG = GOOD.replace(" 2 ", " 3 ")
LOOSE = "two stars , so 2"


def judge(body: Body, nth: int) -> Body:
    """Calls a description without stars bad, and a chain that says 3 partly right."""
    asked = words_of(body)
    if "You grade descriptions" in asked:
        return answer(choice("Verdict: good" if "two stars" in asked else "Verdict: bad"))
    return answer(choice("Verdict: partly" if "answer: 3" in asked else "Verdict: good"))


def rollout(runs: Path) -> RunFolder:
    """Two prompts that ask for the three parts, four completions each; the last of the second was cut off."""
    groups = []
    for i in range(2):
        plain = replace(prompt_row(i, images=True, label="general"), answer="2", answer_kind="number")
        row = load("augmentation", "describe").apply(plain, Random(0))
        done = [completion(text, index) for index, text in enumerate((GOOD, BLIND, WRONG, LOOSE if i else GOOD))]
        if i:
            done[0] = replace(done[0], finish_reason="length")
        fields = {name: getattr(row, name) for name in hints(PromptRow)}
        groups.append(RolloutGroup(**fields, prompt_token_ids=[1, 2], completions=done))
    return run_of(runs, "rollout", ROLLOUTS, groups)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: Any) -> RunFolder:
    runs = tmp_path_factory.mktemp("cleaning")
    with serving(judge) as server:
        values = {**RECIPE["score"], "also": []}
        values["judges"] = {n: {**table, "url": server.url} for n, table in values["judges"].items()}
        config = build(ScoreConfig, values, "score")
        result = run_stage(STAGE, config, [rollout(runs).path], options=Options(runs=runs))
        pictures = [any(part["type"] == "image_url" for m in c["messages"] for part in _parts(m)) for c in server.calls]
        chains = ["You grade reasoning" in words_of(c) for c in server.calls]
    # The chain is to follow from question and description alone.
    assert pictures == [not chain for chain in chains]
    return RunFolder.open(result.path)


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    return message["content"] if isinstance(message["content"], list) else []


def test_quality_is_the_papers_sum_of_its_parts(scored: RunFolder) -> None:
    rewards = [[c.reward for c in group.completions] for group in scored.rows(SCORED)]
    good, blind = 1.0, 0.70
    wrong = 0.30 + 0.35 * 0.5 + 0.05
    assert rewards[0] == pytest.approx([good, blind, wrong, good])
    assert rewards[1][:3] == pytest.approx([good, blind, wrong])
    # Neither description nor form: the whole of it is taken for the answer.
    assert rewards[1][3] < 0.8


def kept(scored: RunFolder, bar: float) -> tuple[list[str], list[tuple[str, str]]]:
    left_out: list[tuple[str, str]] = []
    config = TrainConfig(objective="sft", batch_size=2)
    found = rewarded_entries([scored], config, bar, lambda source, ref, why, _: left_out.append((ref, why)))
    assert sorted(e.ref for e in rewarded_order(found, config)) == sorted(e.ref for e in found)
    return [e.ref for e in found], left_out


def test_only_whole_completions_that_reach_the_bar_are_imitated(scored: RunFolder) -> None:
    first, second = (group.id for group in scored.rows(SCORED))
    found, left_out = kept(scored, 0.8)
    assert found == [f"{first}#0", f"{first}#3"]
    assert (f"{second}#0", "truncated") in left_out
    assert sum(why == "low_reward" for _, why in left_out) == 5
    assert len(kept(scored, 0.7)[0]) == 4
    with pytest.raises(InputError, match=r"earned 1\.5"):
        kept(scored, 1.5)


def test_the_example_is_the_prompt_that_asks_with_the_teachers_words(scored: RunFolder) -> None:
    entry = rewarded_entries([scored], TrainConfig(objective="sft"), 0.8, lambda *_: None)[1]
    group = next(iter(scored.rows(SCORED)))
    example = as_example(entry, group)
    assert (example.messages, example.images) == (group.messages, group.images)
    assert (example.id, example.reference_response) == (group.id, GOOD)
    assert "<description>" in words(group)


def test_training_imitates_them_and_the_bar_is_part_of_its_identity(scored: RunFolder, tmp_path: Path) -> None:
    fast = {"objective": "sft", "policy": "tiny:qwen2_5_vl", "learning_rate": 1e-3, "batch_size": 2, "steps": 1}
    run = train(scored.path, tmp_path, **fast, objectives={"sft": {"min_reward": 0.8}})
    assert [row.groups for row in steps(run)] == [2]
    assert {why for why, _ in rejects(run)} == {"low_reward", "truncated"}
    assert run.manifest.key["plan"]["sft"] == {"min_reward": 0.8, "observed": "read"}


def test_judges_of_quality_are_shown_their_part_and_all_of_a_reply() -> None:
    parsed = parse_completion(GOOD, DESCRIBE)
    assert part_of(load_prompt("description_quality"), parsed) == "two stars ."
    whole = "description: two stars .\nreasoning: so 2 .\nanswer: 2"
    assert part_of(load_prompt("chain_quality"), parsed) == whole
    assert not load_prompt("chain_quality").asks.images
