"""Who judged each figure that rests on verdicts, how much is undecided, and what to type where that is too much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas.evals import EvalRow
from schemas.prompts import source_name
from schemas.scored import UNDECIDED
from stages.core.registry import load, names
from stages.eval.table import ALL, undecided_share
from stages.judging.command import judge_command, judge_hint

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder

MOST_UNDECIDED = 0.05
"""Share of a judged figure's completions above which what is left says too little, and a judge is asked for."""
_NAMED = 3
"""So many policies are named one by one, where all are meant."""
_COMPLETIONS = "completions.list.element"


def too_undecided(undecided: int, completions: int) -> bool:
    """Whether so many completions have no verdict that a judge is asked for."""
    return undecided > MOST_UNDECIDED * (undecided + completions)


def judge_lines(
    rows: list[EvalRow], scored: Iterable[RunFolder], benchmarks: dict[str, Any] | None = None
) -> list[str]:
    """Who judged each figure, and how much is undecided; with what to type where that is too much."""
    # Policies that were judged alike are named in one line.
    lines: dict[tuple[str, str], list[str]] = {}
    for row in (r for r in rows if r.slice == ALL and r.judged_by):
        total = row.undecided + row.completions
        left = f"; {undecided_share(row)} of {total:,} completions undecided, and left out" if row.undecided else ""
        lines.setdefault((row.metric, row.judged_by + left), []).append(row.policy)
    # Figures that were judged alike, of the same policies, are one line.
    alike: dict[tuple[str, str], list[str]] = {}
    every = list(dict.fromkeys(r.policy for r in rows))
    for (metric, by), policies in lines.items():
        of = f"all {len(every)} policies" if policies == every and len(every) > _NAMED else ", ".join(policies)
        alike.setdefault((of, by), []).append(metric)
    told = [f"{', '.join(metrics)} of {policies}: judged by {by}" for (policies, by), metrics in alike.items()]
    return told + [f"to judge them{of}: {command}" for of, command in judge_hints(rows, scored, benchmarks)]


@dataclass(slots=True)
class _Asked:
    """What one judge is wanted for."""

    benchmarks: dict[str, str] = field(default_factory=dict)
    """Names of benchmarks with their titles; empty where it is about a metric of cosmo's own."""
    policies: set[str] = field(default_factory=set)
    """Ids of the policies whose completions want it."""


def judge_hints(
    rows: list[EvalRow], scored: Iterable[RunFolder], benchmarks: dict[str, Any] | None = None
) -> list[tuple[str, str]]:
    """Of which benchmarks, and what to type for a judge of each run with such completions, where one is wanted."""
    asked: dict[tuple[tuple[str, ...], str, bool], _Asked] = {}
    known = benchmarks["present"] if benchmarks else {}
    judges = {m: (one["judge"], name) for name, one in known.items() for m in one["figures"]}
    for row in (r for r in rows if r.slice == ALL and too_undecided(r.undecided, r.completions)):
        # A benchmark's figure of which nobody judged anything names no judge, and wants one all the more.
        if not row.judged_by and row.metric not in judges:
            continue
        judge, name = judges.get(row.metric, ({}, ""))
        own = (judge.get("verifier") or known[name]["grades"][row.metric],) if name else _verifiers_of(row.metric)
        one = asked.setdefault((own, judge.get("prompt") or "", bool(judge.get("instead"))), _Asked())
        one.policies.add(row.policy_id)
        one.benchmarks.update({name: known[name]["title"]} if name else {})
    folders = list(scored) if asked else []
    found = []
    for (verifiers, prompt, instead), one in asked.items():
        of = f" of {', '.join(one.benchmarks.values())}" if one.benchmarks else ""
        for folder in folders:
            sources, policies, left_open = _contents(folder)
            if one.policies.isdisjoint(policies) or (one.benchmarks and sources.isdisjoint(one.benchmarks)):
                continue
            wanted = [v for v in verifiers if v in left_open] or [verifiers[-1]]
            # Some verifiers have no judge's prompt that asks what they ask.
            found += [(of, command) for command in judge_commands([folder], wanted, prompt, instead) if command]
    return found


def _verifiers_of(metric: str) -> tuple[str, ...]:
    """The verifiers whose verdicts a metric counts."""
    return load("metric", metric).judged_by if metric in names("metric") else ("safety",)


def _contents(folder: RunFolder) -> tuple[set[str], set[str], set[str]]:
    """The sources and policies of a scored run, and the verifiers that left some completion undecided to nobody."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sources: set[str] = set()
    policies: set[str] = set()
    left_open: set[str] = set()
    leaves = [f"{_COMPLETIONS}.policy_id"]
    leaves += [f"{_COMPLETIONS}.grades.list.element.{name}" for name in ("name", "status", "left_to")]
    table = folder.columns(["source", *leaves])
    sources.update(source_name(str(source)) for source in table.column("source").unique().to_pylist())
    for chunk in table.column("completions").chunks:
        flat = chunk.flatten()
        policies.update(flat.field("policy_id").unique().to_pylist())
        grades = flat.field("grades").flatten()
        is_open = pc.and_(
            pc.equal(grades.field("status"), pa.scalar(str(UNDECIDED))), grades.field("left_to").is_null()
        )
        left_open.update(grades.field("name").filter(is_open).unique().to_pylist())
    return sources, policies, left_open


def judge_commands(
    scored: Iterable[RunFolder], verifiers: Iterable[str], prompt: str = "", instead: bool = False
) -> list[str]:
    """What to type for a judge of what rules left undecided in these runs, or in place of a rule; "" for none."""
    asked = list(verifiers)
    prompts = dict.fromkeys(asked, prompt) if prompt else {}
    return [judge_hint(judge_command(folder, asked, prompts, instead)) for folder in scored]
