"""What a scored run came to: its rewards, how many groups have nothing to tell apart, and what has no reward and why.

Read from the shards without texts, ids and images, so that it costs little for a cached run, too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas.scored import ERROR, FAILED, NOT_APPLICABLE, TIMEOUT, UNDECIDED
from stages.core.runs.halved import halved_line, halved_numbers
from stages.core.runs.unmarked import HOW_TO_MARK, unmarked_line
from stages.core.stage import Quality
from stages.score.rewards import principal_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from stages.core.runs.folder import RunFolder

EQUAL = 1e-9
"""Rewards of a group that differ by no more than this teach nothing; what training calls flat."""
MOST_FLAT, MOST_FAILED = 0.75, 0.5
"""Shares above which a person is warned. Half of the groups of a healthy run are often flat; half failed are never."""
_COMPLETIONS = "completions.list.element"
_LEAVES = ("reward", "finish_reason", "error")
_GRADE_LEAVES = ("name", "status", "reason", "left_to")
NOT_SAMPLED = "not sampled"


@dataclass(slots=True)
class Summary:
    """Counts over a scored run."""

    ids: list[str] = field(default_factory=list)
    """Prompt ids, one a group."""
    rewards: np.ndarray | None = None
    """Each completion's reward, NaN where it has none. Shape (N,)."""
    groups: np.ndarray | None = None
    """The number of each completion's group. Shape (N,)."""
    missing: Counter[str] = field(default_factory=Counter)
    """Why completions have no reward, in few words: `answer failed`, `safety does not apply`, `not sampled`."""
    first_missing: str = ""
    """The id of a prompt with such a completion."""
    undecided: Counter[str] = field(default_factory=Counter)
    """Completions that have no reward because this verifier is undecided."""
    in_full: dict[str, str] = field(default_factory=dict)
    """What the first such completion's row says, by those words."""
    applied: Counter[str] = field(default_factory=Counter)
    """Grades by verifier, those that don't apply left out; completions that were not sampled, too."""
    failed: Counter[str] = field(default_factory=Counter)
    """Those of them that are a timeout or an error."""
    failures: dict[str, str] = field(default_factory=dict)
    """One reason of those, by verifier."""


def quality_of(folder: RunFolder) -> Quality:
    """Reward, flat groups and what has no reward; a failure where nothing has one, and no rule waits for a judge."""
    import numpy as np

    found = summarise(folder)
    assert found.rewards is not None
    assert found.groups is not None
    known = ~np.isnan(found.rewards)
    count, rewarded = len(found.rewards), int(known.sum())
    spreads = group_spreads(found.rewards[known], found.groups[known])
    flat = int((spreads[:, 1] <= EQUAL).sum())
    numbers: dict[str, Any] = {
        "completions": count,
        "without_reward": dict(found.missing.most_common()),
        "reward_mean": round(float(found.rewards[known].mean()), 6) if rewarded else None,
        "reward_std": round(float(spreads[:, 0].mean()), 6) if len(spreads) else None,
        "groups": len(spreads),
        "flat_groups": flat,
        "failed_grades": dict(sorted(found.failed.items())),
        **halved_numbers(folder),
    }
    hint = f"cosmo score {folder.where} --explain {found.first_missing}" if found.first_missing else ""
    if not rewarded and found.undecided:
        # Every row was read, and nothing is wrong with it: what is left is somebody else's to decide.
        return Quality("no completion has a reward", numbers, _open(found, count), hint=_judge(folder, found))
    if not rewarded:
        why = _reasons(found, full=True)
        if unmarked_line(folder):
            hint += f"; to mark its rows, prepare or import them again with {HOW_TO_MARK}"
        return Quality(numbers=numbers, failure=f"none of {count} completions has a reward: {why}", hint=hint)
    warnings = _warnings(found, count, flat, len(spreads))
    return Quality(_line(numbers, found), numbers, "; ".join(warnings) or None, hint=hint if warnings else "")


def _open(found: Summary, count: int) -> str:
    """`all 200 completions are undecided, and have no reward: 200 safety is undecided`."""
    undecided = found.undecided.total()
    which = f"all {count}" if undecided == count else f"{undecided} of {count}"
    return f"{which} completions are undecided, and none has a reward: {_reasons(found, full=True)}"


def _judge(folder: RunFolder, found: Summary) -> str:
    from stages.judging.command import judge_command, judge_hint

    return judge_hint(judge_command(folder, sorted(found.undecided)))


def _line(numbers: dict[str, Any], found: Summary) -> str:
    """`reward 1.42 (spread 0.31 in a group), 3 of 40 groups flat, 5 of 160 completions without one: 5 not sampled`."""
    spread = "" if numbers["reward_std"] is None else f" (spread {numbers['reward_std']:.2f} in a group)"
    parts = [f"reward {numbers['reward_mean']:.2f}{spread}"]
    if numbers["groups"]:
        parts.append(f"{numbers['flat_groups']} of {numbers['groups']} groups flat")
    if missing := found.missing.total():
        parts.append(f"{missing} of {numbers['completions']} completions without one: {_reasons(found)}")
    return ", ".join(parts) + halved_line(numbers, "graded")


def _warnings(found: Summary, count: int, flat: int, groups: int) -> list[str]:
    warnings = []
    for name, applied in sorted(found.applied.items()):
        if (failed := found.failed[name]) > MOST_FAILED * applied:
            which = f"every grade of {name}" if failed == applied else f"{failed} of {applied} grades of {name}"
            warnings.append(f"{which} failed: {found.failures[name]}")
    missing = found.missing.total()
    if missing > MOST_FAILED * count:
        warnings.append(f"{missing} of {count} completions have no reward: {_reasons(found, full=True)}")
    if groups and flat > MOST_FLAT * groups:
        warnings.append(f"{flat} of {groups} groups have equal rewards throughout, and teach nothing")
    return warnings


def _reasons(found: Summary, most: int = 3, *, full: bool = False) -> str:
    """The most frequent reasons with their counts; the first of the most frequent one in its own words."""
    common = found.missing.most_common()
    shown = [f"{count} {why}" for why, count in common[:most]]
    if full and common and (example := found.in_full.get(common[0][0])):
        shown[0] += f" ({example})"
    if len(common) > most:
        shown.append(f"{sum(count for _, count in common[most:])} for other reasons")
    return ", ".join(shown)


def group_spreads(rewards_N: np.ndarray, groups_N: np.ndarray) -> np.ndarray:
    """(standard deviation, range) of each group with two rewards or more, shape (G, 2); group numbers are in order."""
    import numpy as np

    # -1 before the first number makes every first completion of a group a step, the first group's too.
    starts = np.flatnonzero(np.diff(groups_N, prepend=-1))
    found = [
        (float(values.std()), float(values.max() - values.min()))
        for values in (np.split(rewards_N, starts[1:]) if len(starts) else [])
        if len(values) > 1
    ]
    return np.array(found, dtype=float).reshape(-1, 2)


def summarise(folder: RunFolder) -> Summary:
    """One pass over the shards of a scored run, one of them in memory at a time."""
    import numpy as np

    from schemas.tables import SCORED
    from stages.core.runs.shards import read_columns

    leaves = ["id", *(f"{_COMPLETIONS}.{leaf}" for leaf in _LEAVES), f"{_COMPLETIONS}.terms.list.element.name"]
    leaves += [f"{_COMPLETIONS}.grades.list.element.{leaf}" for leaf in _GRADE_LEAVES]
    found = Summary()
    rewards, groups = [], []
    for path in folder.shard_paths():
        table = read_columns(path, leaves, SCORED).combine_chunks()
        if not table.num_rows:
            continue
        # One chunk after `combine_chunks`, as the table is not empty.
        column = table.column("completions").chunk(0)
        # For each completion the row that holds it, which `flatten` would lose.
        parents = column.value_parent_indices()
        flat = column.flatten()
        # Arrow's nulls come out as NaN, which marks a missing reward from here on.
        rewards.append(flat.field("reward").to_numpy(zero_copy_only=False).astype(float))
        groups.append(parents.to_numpy(zero_copy_only=False) + len(found.ids))
        found.ids += table.column("id").to_pylist()
        _count_grades(found, flat)
        _count_missing(found, flat, groups[-1])
    found.rewards = np.concatenate(rewards) if rewards else np.zeros(0)
    found.groups = np.concatenate(groups) if groups else np.zeros(0, dtype=int)
    return found


def _count_grades(found: Summary, flat: pa.StructArray) -> None:
    """Grades by verifier, counted in Arrow: a large run has millions."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sampled = flat.filter(pc.not_equal(flat.field("finish_reason"), "error"))
    grades = sampled.field("grades").flatten()
    table = pa.table({name: grades.field(name) for name in _GRADE_LEAVES})
    for row in table.group_by(["name", "status"]).aggregate([([], "count_all"), ("reason", "min")]).to_pylist():
        if row["status"] != NOT_APPLICABLE:
            found.applied[row["name"]] += row["count_all"]
        if row["status"] in FAILED:
            found.failed[row["name"]] += row["count_all"]
            found.failures.setdefault(row["name"], row["reason_min"] or row["status"])


def _count_missing(found: Summary, flat: pa.StructArray, groups_N: np.ndarray) -> None:
    import numpy as np

    without = flat.field("reward").is_null()
    for number, completion in zip(groups_N[np.asarray(without)], flat.filter(without).to_pylist(), strict=True):
        found.first_missing = found.first_missing or found.ids[number]
        why, reason, undecided = _why(completion)
        found.missing[why] += 1
        if undecided:
            found.undecided[undecided] += 1
        if reason:
            found.in_full.setdefault(why, reason)


_WHY = (
    (ERROR, "failed"),
    (TIMEOUT, "timed out"),
    (UNDECIDED, "is undecided"),
    (NOT_APPLICABLE, "does not apply"),
)


def _why(completion: dict[str, Any]) -> tuple[str, str, str]:
    """(in few words, in full) why a completion has no reward: what failed first, or what does not apply.

    Third is the verifier that is undecided, where that is why.
    """
    if completion["finish_reason"] == "error":
        return NOT_SAMPLED, completion["error"] or "", ""
    terms = [term["name"] for term in completion["terms"]]
    principal = principal_of(terms) if terms else ""
    # The task's own term first: of two that have no value, it is the one that the reward waits for.
    by_name = {g["name"]: g for g in completion["grades"]}
    grades = [by_name[name] for name in sorted(terms, key=lambda name: name != principal) if name in by_name]
    # What was left to another verifier waits for that one.
    grades = [by_name.get(g["left_to"], g) for g in grades]
    for status, verb in _WHY:
        for grade in grades:
            if grade["status"] == status:
                return f"{grade['name']} {verb}", grade["reason"] or "", grade["name"] if status == UNDECIDED else ""
    return "no term has a value", "", ""
