"""Further draws of a turn: how many prompts they take, which groups count as live, and that draws never overlap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.scored import is_live
from schemas.tables import ROLLOUTS
from stages.core.config import build
from stages.core.errors import InputError, UsageError
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.stage import Plan
from stages.rollout.adaptive_weights import AdaptiveSelection, adapted
from stages.rollout.config import RolloutConfig
from stages.rollout.refill import RefillSelection, prompts_wanted, refilled
from stages.rollout.stage import STAGE
from tests.eval.made import answered, scored_run
from tests.prepare.made import prepare

LIVE, RIGHT, WRONG = [True, False], [True, True], [False, False]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: Any) -> Path:
    table = {"name": "builtin", "train": 60, "test": 0, "weights": {"general": 1}}
    return Path(prepare(tmp_path_factory.mktemp("prompts"), table).folder.path)


def drawn(prompts: Path, runs: Path, **select: Any) -> list[str]:
    """The ids of the prompts that a draw of at most 8 of them takes."""
    values = {"engine": "fake", "samples": 1, "max_new_tokens": 4, "select": {"take": 8, **select}}
    result = run_stage(STAGE, build(RolloutConfig, values, "rollout"), [prompts], options=Options(runs=runs))
    return [group.id for group in RunFolder.open(result.path).rows(ROLLOUTS)]


def scored(runs: Path, *kinds: list[bool]) -> str:
    return str(scored_run(runs, [answered(f"question {i}", rights) for i, rights in enumerate(kinds)]).path)


@pytest.mark.parametrize(
    ("live", "groups", "wanted"),
    [(8, 8, 1), (9, 16, 1), (4, 8, 8), (6, 8, 3), (7, 8, 2), (0, 8, 8), (1, 8, 8), (7, 24, 4)],
)
def test_as_many_prompts_as_the_share_of_live_groups_makes_likely(live: int, groups: int, wanted: int) -> None:
    assert prompts_wanted(live, groups, goal=8, most=8) == wanted


@pytest.mark.parametrize(
    ("rewards", "values", "live"),
    [
        ([1.0, 1.0], [], False),
        ([1.0, 0.5], [], True),
        ([1.0, None], [], False),
        # By the answer alone: other terms may differ as they like.
        ([1.7, 1.0], [1.0, 1.0], False),
        ([0.7, 0.0], [0.0, 0.0], False),
        ([1.0, 1.0], [1.0, 0.0], True),
        ([1.0, 0.5], [None, None], True),
        ([1.0] * 200, [1.0] * 199 + [0.0], False),
    ],
)
def test_a_group_is_live_by_its_verifiers_values_or_else_by_its_rewards(
    rewards: list[float | None], values: list[float | None], live: bool
) -> None:
    assert is_live(rewards, values) is live


def test_a_further_draw_takes_what_is_lacking_of_its_own_slice(prompts: Path, tmp_path: Path) -> None:
    first, whole = drawn(prompts, tmp_path, draw=0), drawn(prompts, tmp_path, draw=1)
    assert len(first) == len(whole) == 8
    assert not set(first) & set(whole)
    before = [scored(tmp_path / "a", *[LIVE] * 5, *[RIGHT] * 5), scored(tmp_path / "b", LIVE, WRONG)]
    # 6 of 12 are live and 2 of 8 are missing: 4 prompts.
    lacking = {"refill_of": before, "refill_to": 8, "refill_by": "answer"}
    assert drawn(prompts, tmp_path, draw=1, **lacking) == whole[:4]
    assert drawn(prompts, tmp_path, draw=1, **{**lacking, "refill_to": 6}) == whole[:1]
    assert drawn(prompts, tmp_path, draw=1, **{**lacking, "refill_of": before[1:]}) == whole
    # Where the folders lie changes nothing, what is in them does: the same plan is cached, another is another run.
    assert len(list(tmp_path.glob("rollout-*"))) == 5


def test_what_a_further_draw_needs_is_named(prompts: Path, tmp_path: Path) -> None:
    before = scored(tmp_path / "a", LIVE)
    with pytest.raises(UsageError, match="refill_to"):
        drawn(prompts, tmp_path, refill_of=[before])
    with pytest.raises(InputError, match=r"select\.refill_of: .* holds prompts"):
        drawn(prompts, tmp_path, refill_of=[str(prompts)], refill_to=8)


def test_a_plan_made_again_takes_over_what_the_same_scored_runs_came_to_and_nothing_else(tmp_path: Path) -> None:
    """`cosmo status` plans a thousand runs again: their scored groups have been read once."""
    folder = scored(tmp_path, *[LIVE] * 2, *[RIGHT] * 2)
    refill = RefillSelection(refill_of=[folder], refill_to=6, refill_by="answer", take=8)
    wanted, key = refilled(refill)
    assert wanted == key["wanted"] == 8
    # A number that no count gives shows where it comes from.
    assert refilled(refill, Plan([], {**key, "wanted": 3}))[0] == 3
    assert refilled(refill, None) == (8, key)
    for other in ({}, {**key, "refill_of": ["0" * 64], "wanted": 3}, {**key, "wanted": "3"}):
        assert refilled(refill, Plan([], other)) == (8, key)
    adaptive = AdaptiveSelection(labels={"general": 1.0, "safety": 1.0}, adapt_to=[folder])
    drawn_with, key = adapted(adaptive)
    assert drawn_with.labels == key["adapted_labels"]
    mine = {"general": 0.25, "safety": 0.75}
    assert adapted(adaptive, Plan([], {**key, "adapted_labels": mine}))[0].labels == mine
    assert adapted(adaptive, None) == (drawn_with, key)
    for other in ({**key, "adapt_to": [], "adapted_labels": mine}, {**key, "adapted_labels": 7}):
        assert adapted(adaptive, Plan([], other)) == (drawn_with, key)
