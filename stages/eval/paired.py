"""Rows of a family against the rows they were made of, task by task: what a rewriting does to the same questions.

VTPerception-R1's study of perception (arXiv:2509.24776) compares settings so: each row made of another names it in
`parent_id`, and both were answered by the same policy. A difference has the interval of any paired rate, and the exact
p of McNemar's test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stages.core.errors import InputError
from stages.eval.intervals import Interval, mcnemar, paired_rate_difference
from stages.eval.measure import ALL, Measured
from stages.eval.table import number


@dataclass(frozen=True, slots=True)
class Setting:
    """How one metric of one policy differs between a family's rows and their parents, within one task or in all."""

    policy: str
    family: str
    metric: str
    task: str
    """A task's name, or `all`."""
    before: float
    """The rate on the parents."""
    after: float
    """The rate on the family's rows."""
    interval: Interval
    """Of the difference, after minus before."""
    up: int
    """Prompts that the family's row does better on than its parent."""
    down: int
    """Prompts that it does worse on."""
    p: float
    """Of McNemar's exact test, two-sided; no correction for several tests."""


def settings(found: Measured, families: list[str]) -> list[Setting]:
    """Every named family against its parents, by policy and rate, in all tasks together and in each.

    InputError for a family of which no row was measured together with its parent.
    """
    made: list[Setting] = []
    for family in families:
        own = [one for policy in found.policies for one in _of_family(found, policy, family)]
        if not own:
            raise InputError(
                f"eval.paired names {family!r}, and of no row of that family the parent was measured, too",
                "the rollout has to hold both: look at select.exclude_families, and at `parent_id` of the rows",
            )
        made += own
    return made


def _of_family(found: Measured, policy: str, family: str) -> Iterator[Setting]:
    for metric, kind in found.metrics.items():
        if not kind.rate or kind.ratio or kind.unit or found.is_undecided(policy, metric, ALL):
            continue
        means, by_task = found.means(policy, metric), dict[str, list[tuple[float, float]]]()
        for ident, after in means.items():
            info = found.prompts[ident]
            # A twin's parent is the harmful row of its own family: another question, and no baseline.
            baseline = found.prompts.get(info.parent_id or "")
            if info.family == family and baseline and baseline.family is None and info.parent_id in means:
                for task in (ALL, info.task):
                    by_task.setdefault(task, []).append((means[info.parent_id], after))
        for task, pairs in sorted(by_task.items(), key=lambda item: (item[0] != ALL, item[0])):
            yield _setting(policy, family, metric, task, pairs)


def _setting(policy: str, family: str, metric: str, task: str, pairs_N: list[tuple[float, float]]) -> Setting:
    moved = [after - before for before, after in pairs_N]
    before, after = (sum(side) / len(pairs_N) for side in zip(*pairs_N, strict=True))
    up, down = sum(m > 0 for m in moved), sum(m < 0 for m in moved)
    interval = paired_rate_difference(moved)
    return Setting(policy, family, metric, task, before, after, interval, up, down, mcnemar(up, down))


def record(found: list[Setting]) -> list[dict[str, Any]]:
    """What summary.json holds of them."""
    return [
        {
            "policy": one.policy,
            "family": one.family,
            "metric": one.metric,
            "task": one.task,
            "n": one.interval.n,
            "before": one.before,
            "after": one.after,
            "difference": one.interval.value,
            "low": one.interval.low,
            "high": one.interval.high,
            "up": one.up,
            "down": one.down,
            "p": one.p,
        }
        for one in found
    ]


def paired_table(record: list[dict[str, Any]]) -> list[list[str]]:
    """Header and one line a policy, metric, task and setting, of what summary.json holds."""
    lines = [["policy", "metric", "task", "setting", "n", "baseline", "with it", "difference", "better", "worse", "p"]]
    order = {key: i for i, key in enumerate(dict.fromkeys((r["policy"], r["metric"], r["task"]) for r in record))}
    for one in sorted(record, key=lambda r: order[r["policy"], r["metric"], r["task"]]):
        low, high = number(one["low"], "+"), number(one["high"], "+")
        lines.append(
            [
                *(one[key] for key in ("policy", "metric", "task", "family")),
                str(one["n"]),
                number(one["before"]),
                number(one["after"]),
                f"{number(one['difference'], '+')} [{low}, {high}]",
                str(one["up"]),
                str(one["down"]),
                f"{one['p']:.2g}",
            ]
        )
    return lines
