"""What `cosmo score` says of the run it made: never a silent success where nothing was graded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.rollouts import RolloutGroup
from schemas.scored import Grade, ScoredCompletion, ScoredGroup
from stages.core.errors import InputError
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.runs.unmarked import unmarked_line
from stages.core.stage import Quality
from stages.score.config import ScoreConfig
from stages.score.quality import group_spreads, quality_of, summarise
from stages.score.stage import STAGE
from tests.score.made import completion, graded, graded_row, group, on_disk, thought
from tests.support.cli import complaint, cosmo

LEFT = graded("answer", None, "undecided", left_to="judge")


def asked(number: int, *texts: str, **fields: Any) -> RolloutGroup:
    return group(*map(thought, texts), question=f"question {number} ?", **{"answer": "7", **fields})


def unsampled(number: int, count: int, lost: int, error: str = "out of memory") -> RolloutGroup:
    """A group of right completions and a wrong one, the first `lost` of which the engine did not give."""
    gone = [completion("", i, finish_reason="error", error=error, token_ids=[], logprobs=[]) for i in range(lost)]
    there = [completion(thought("7" if i < count - 1 else "8"), i) for i in range(lost, count)]
    return asked(number, completions=gone + there)


def graded_by(name: str, statuses: list[str], *, reason: str = "no server") -> ScoredGroup:
    """A scored row with one more verifier beside the reward."""
    row = asked(1, *["7"] * len(statuses))
    made = []
    for sample, status in zip(row.completions, statuses, strict=True):
        grades = [Grade(name="answer", version=2, value=1.0, status="ok")]
        grades.append(Grade(name=name, version=1, value=0.5 if status == "ok" else None, status=status, reason=reason))
        fields = {f: getattr(sample, f) for f in sample.__dataclass_fields__}
        made.append(ScoredCompletion(**fields, grades=grades, reward=float(sample.index)))
    fields = {f: getattr(row, f) for f in row.__dataclass_fields__ if f != "completions"}
    return ScoredGroup(**fields, completions=made, reward_formula="sum: format*1 + answer*1")


def quality(runs: Path, rows: list[Any], per_shard: int = 2, **config: Any) -> Quality:
    result = run_stage(
        STAGE,
        ScoreConfig(**config),
        [on_disk(runs, rows, per_shard)],
        options=Options(runs=runs, accept_failure=True),
    )
    return result.quality


def test_rewards_flat_groups_and_what_is_missing(tmp_path: Path) -> None:
    rows = [
        asked(0, "7", "8", "7", "9"),  # 2 1 2 1
        asked(1, "7", "7", "7", "7"),  # flat
        unsampled(2, 4, 3),  # a single reward of 1: no group to compare in
        asked(3, "7", "8", label="safety"),  # not marked harmful or harmless: no term of the task
        asked(4, "7"),
    ]
    found = quality(tmp_path, rows)
    assert found.numbers == {
        "completions": 15,
        "without_reward": {"not sampled": 3, "safety does not apply": 2},
        "reward_mean": 1.7,
        "reward_std": 0.25,
        "groups": 2,
        "flat_groups": 1,
        "failed_grades": {},
    }
    assert found.line == (
        "reward 1.70 (spread 0.25 in a group), 1 of 2 groups flat, "
        "5 of 15 completions without one: 3 not sampled, 2 safety does not apply"
    )
    assert (found.warning, found.failure) == (None, None)


def test_the_order_of_shards_does_not_mix_groups(tmp_path: Path) -> None:
    rows = [asked(n, *(["7", "7"] if n % 2 else ["7", "8"])) for n in range(7)]
    whole = quality(tmp_path / "a", rows, per_shard=50)
    assert quality(tmp_path / "b", rows, per_shard=1) == whole
    assert (whole.numbers["groups"], whole.numbers["flat_groups"]) == (7, 3)


def test_spreads_are_of_groups_with_something_to_compare() -> None:
    rewards, groups = np.array([1.0, 3.0, 5.0, 2.0, 2.0]), np.array([0, 0, 4, 7, 7])
    assert group_spreads(rewards, groups).tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert group_spreads(np.zeros(0), np.zeros(0, dtype=int)).shape == (0, 2)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([unsampled(0, 3, 3)], "none of 3 completions has a reward: 3 not sampled (out of memory)"),
        (
            [asked(0, "7", "8", label="safety")],
            "none of 2 completions has a reward: 2 safety does not apply (the row is not marked harmful or harmless)",
        ),
        (
            [asked(0, "7", instructions=["no json"], label="instruction"), unsampled(1, 2, 2)],
            "none of 3 completions has a reward: 2 not sampled (out of memory), 1 instruction failed",
        ),
    ],
)
def test_nothing_graded_is_a_failure_that_says_why(tmp_path: Path, rows: list[RolloutGroup], why: str) -> None:
    found = quality(tmp_path, rows)
    assert found.failure == why
    assert f"--explain {rows[0].id}" in found.hint
    with pytest.raises(InputError, match="has a reward"):
        run_stage(STAGE, ScoreConfig(), [on_disk(tmp_path, rows, 2)], options=Options(runs=tmp_path))


@pytest.mark.parametrize(
    ("grades", "why"),
    [
        # The task's own term is said first, whatever comes first in the formula.
        ([graded("format", None, "error"), graded("answer", None, "error")], "answer failed"),
        ([graded("format", None, "error"), graded("answer", None, "not_applicable")], "format failed"),
        # What was left to another verifier waits for that one, where it was asked.
        ([LEFT, graded("judge", None, "undecided")], "judge is undecided"),
        ([LEFT, graded("judge", None, "timeout")], "judge timed out"),
        ([LEFT], "answer is undecided"),
    ],
)
def test_why_a_completion_has_no_reward(grades: list[Grade], why: str, tmp_path: Path) -> None:
    found = summarise(RunFolder.open(on_disk(tmp_path, [graded_row(*grades)])))
    assert dict(found.missing) == {why: 1}
    assert dict(found.undecided) == ({why.split()[0]: 1} if why.endswith("undecided") else {})


def test_the_most_frequent_reasons_are_named_and_the_others_counted(tmp_path: Path) -> None:
    graded_so = [
        *[[graded("answer", None, "error", reason="no server")]] * 4,
        *[[graded("answer", None, "timeout")]] * 3,
        *[[graded("answer", None, "not_applicable")]] * 2,
        [graded("format", None, "error")],
    ]
    rows = [graded_row(*grades, question=f"{n} ?") for n, grades in enumerate(graded_so)]
    assert quality_of(RunFolder.open(on_disk(tmp_path, rows))).failure == (
        "none of 10 completions has a reward: 4 answer failed (no server), 3 answer timed out, "
        "2 answer does not apply, 1 for other reasons"
    )


@pytest.mark.parametrize("lost", [0, 2])
def test_all_undecided_is_a_whole_run_that_says_what_to_type(tmp_path: Path, lost: int) -> None:
    """No failure (the run ends with 0): every completion was read, and a judge may decide."""
    rows = [asked(0, "7", "8", label="safety", harmful=True), *([unsampled(1, lost, lost)] if lost else [])]
    found = run_stage(STAGE, ScoreConfig(), [on_disk(tmp_path, rows)], options=Options(runs=tmp_path)).quality
    assert found.failure is None
    which = "2 of 4" if lost else "all 2"
    assert (found.warning or "").startswith(f"{which} completions are undecided, and none has a reward: 2 safety is un")
    assert "--set undecided.safety=safety_judge" in found.hint


def test_safety_rows_that_say_nothing_are_counted(tmp_path: Path) -> None:
    marked = [asked(n, "7", label="safety", harmful=n == 0) for n in range(2)]
    rest = [asked(3, "7"), asked(4, "7", label="jailbreak")]
    assert unmarked_line(RunFolder.open(on_disk(tmp_path / "a", marked + rest))) is None
    unmarked = [asked(5, "7", label="safety")]
    said = unmarked_line(RunFolder.open(on_disk(tmp_path / "b", marked + unmarked + rest, 2)))
    assert said is not None
    assert said.startswith("1 of 3 safety rows don't say whether they are harmful")
    assert "--map harmful=COLUMN" in said
    with pytest.raises(InputError) as caught:
        run_stage(STAGE, ScoreConfig(), [on_disk(tmp_path, unmarked)], options=Options(runs=tmp_path))
    assert "--map harmful=COLUMN" in caught.value.hint


@pytest.mark.parametrize(
    ("flat", "of", "warned"), [(3, 4, False), (4, 5, True), (5, 5, True)], ids=["three_quarters", "more", "all"]
)
def test_most_groups_flat_is_a_warning(tmp_path: Path, flat: int, of: int, warned: bool) -> None:
    rows = [asked(n, *(["7", "7"] if n < flat else ["7", "8"])) for n in range(of)]
    warning = quality(tmp_path, rows).warning
    assert (warning is not None) == warned
    if warned:
        assert warning == f"{flat} of {of} groups have equal rewards throughout, and teach nothing"


@pytest.mark.parametrize(("lost", "warned"), [(28, False), (56, True)])
def test_most_completions_lost_is_a_warning(tmp_path: Path, lost: int, warned: bool) -> None:
    found = quality(tmp_path, [unsampled(0, 72, lost)], also=[])
    assert (found.warning is not None) == warned
    if warned:
        assert found.warning == "56 of 72 completions have no reward: 56 not sampled (out of memory)"


@pytest.mark.parametrize(
    ("statuses", "warning"),
    [
        (["error", "timeout", "error"], "every grade of theirs failed: no server"),
        (["error", "not_applicable", "not_applicable"], "every grade of theirs failed: no server"),
        (["error", "error", "ok"], "2 of 3 grades of theirs failed: no server"),
        (["error", "ok", "ok"], None),
        (["not_applicable"] * 3, None),
    ],
)
def test_a_verifier_that_fails_is_a_warning(tmp_path: Path, statuses: list[str], warning: str | None) -> None:
    """Also beside the reward, where it costs no completion anything."""
    assert quality_of(RunFolder.open(on_disk(tmp_path, [graded_by("theirs", statuses)]))).warning == warning


def test_the_command_says_it_and_exits_3(tmp_path: Path) -> None:
    some = cosmo("score", on_disk(tmp_path, [unsampled(0, 72, 56)]), "--json", cwd=tmp_path)
    assert some.returncode == 0, some.stderr
    assert "reward 1.94" in some.stderr
    assert "56 of 72 completions have no reward: 56 not sampled (out of memory)" in " ".join(some.stderr.split())
    assert json.loads(some.stdout)["quality"]["numbers"]["without_reward"] == {"not sampled": 56}
    upstream = on_disk(tmp_path, [unsampled(0, 4, 4)])
    for _ in ("made", "cached"):
        done = cosmo("score", upstream, cwd=tmp_path)
        assert done.returncode == 3
        message, hint = complaint(done)
        assert "none of 4 completions has a reward: 4 not sampled (out of memory)" in message
        explained = cosmo(*hint.split()[1:], cwd=tmp_path)
        assert explained.returncode == 0, explained.stderr
        assert "no completion: out of memory" in explained.stdout
