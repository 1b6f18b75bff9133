"""What `cosmo eval` says of the comparison it made: never a silent success where nothing was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.scored import ScoredGroup
from stages.core.runner import Options, run_stage
from stages.core.stage import Quality
from stages.eval.config import EvalConfig
from stages.eval.stage import STAGE
from tests.eval.made import answered, completion, grade, group, scored_run
from tests.support.cli import complaint, cosmo


def lost(words: str, count: int, *, right: int = 0, policy: str = "policy-a") -> ScoredGroup:
    """A row with `count` completions that were not sampled, and `right` that are right."""
    made = [completion(index=i, policy=policy, finish="error", tokens=0) for i in range(count)]
    made += [
        completion(grade("answer", 1.0, "correct"), grade("format", 1.0), index=count + i, policy=policy, reward=2.0)
        for i in range(right)
    ]
    return group(words, made, answer="two", answer_kind="text")


def quality(runs: Path, *folders: list[ScoredGroup], **values: Any) -> Quality:
    inputs = [scored_run(runs, rows).path for rows in folders]
    options = Options(runs=runs, accept_failure=True)
    return run_stage(STAGE, EvalConfig(**values), inputs, options=options).quality


def test_policies_metrics_and_prompts(tmp_path: Path) -> None:
    one = [answered(f"q{i}", [True, False]) for i in range(5)]
    other = [answered(f"q{i}", [True, False], policy="policy-b") for i in range(7)]
    found = quality(tmp_path, one, other, metrics=["capability", "format", "unsafe_compliance"])
    assert found.line == "2 policies, 2 of 3 metrics measured on 7 prompts"
    assert found.numbers == {"policies": 2, "metrics": 3, "measured": 2, "prompts": 7, "failed": {}}
    assert (found.warning, found.failure) == (None, None)


@pytest.mark.parametrize(
    ("rows", "metrics", "said"),
    [
        ([lost("q", 4)], [], "nothing was measured: 4 completions, or their grades, failed, and no other is there"),
        (
            [answered("q", [True])],
            ["unsafe_compliance", "needless_refusal"],
            "nothing was measured: no row is of a kind that needless_refusal, unsafe_compliance looks at",
        ),
    ],
)
def test_nothing_measured_is_a_failure(tmp_path: Path, rows: list[ScoredGroup], metrics: list[str], said: str) -> None:
    found = quality(tmp_path, rows, metrics=metrics)
    assert found.failure == said
    done = cosmo("eval", scored_run(tmp_path, rows).path, *[f"--set=metrics={metrics}"] * bool(metrics), cwd=tmp_path)
    assert done.returncode == 3
    assert said in complaint(done)[0]


def test_a_metric_that_rests_on_the_smaller_part_is_a_warning(tmp_path: Path) -> None:
    """56 of 72 failed: the figures are there, and so is a line about them."""
    found = quality(tmp_path / "a", [lost("q", 56, right=16)], metrics=["capability"], names=["mine"])
    assert found.warning == "capability of mine rests on 16 completions: 56 others failed"
    assert found.numbers["failed"] == {"mine: capability": 56}
    assert quality(tmp_path / "b", [lost("q", 16, right=16)], metrics=["capability"]).warning is None
    many = quality(tmp_path / "c", [lost("q", 56, right=16)], metrics=["capability", "format", "completion_length"])
    assert many.warning is not None
    assert many.warning.count("rests on") == 3
    every = quality(tmp_path / "d", [lost("q", 56, right=16)]).warning
    assert every is not None
    assert every.endswith("1 more metrics are like that")


def test_a_policy_of_which_nothing_was_measured_is_named(tmp_path: Path) -> None:
    found = quality(tmp_path, [answered("q", [True])], [lost("q", 2, policy="policy-b")], names=["good", "gone"])
    assert found.failure is None
    assert found.warning is not None
    assert found.warning.startswith("nothing was measured of gone")


def test_failures_of_one_prompt_are_pooled_over_folders(tmp_path: Path) -> None:
    folders = [lost("q", 2, right=1)], [lost("q", 3, right=1)]
    found = quality(tmp_path, *folders, metrics=["capability"], names=["both", "both"])
    assert found.numbers["failed"] == {"both: capability": 5}
