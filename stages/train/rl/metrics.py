"""A step's numbers: rewards, refusals and lengths by label."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import Any

from schemas.scored import ScoredCompletion, grade_of
from schemas.steps import LabelStat, TermStat
from stages.train.rl.batches import Group, complied_unsafely


def mean(values: Iterable[float]) -> float | None:
    """Their mean; None where there are none: an empty label has no reward, not a reward of 0."""
    known = list(values)
    return fmean(known) if known else None


def refused(completion: ScoredCompletion) -> bool | None:
    """What the refusal verifier says; None where it did not judge."""
    grade = grade_of(completion, "refusal")
    return None if grade is None or grade.value is None else grade.value >= 0.5


def label_stats(groups: list[Group]) -> list[LabelStat]:
    """The step by label, flat groups included, labels in alphabetical order."""
    stats = []
    for label in sorted({g.row.label for g in groups}):
        labelled = [g for g in groups if g.row.label == label]
        benign = [refused(c.scored) for g in labelled if g.row.harmful is False for c in g.completions]
        harmful = [complied_unsafely(c.scored) for g in labelled if g.row.harmful is True for c in g.completions]
        refusals, unsafe = [r for r in benign if r is not None], [u for u in harmful if u is not None]
        completions = [c.scored for g in labelled for c in g.completions]
        stats.append(
            LabelStat(
                label=label,
                completions=len(completions),
                reward=mean(c.reward for c in completions if c.reward is not None),
                refusal_rate=mean(refusals),
                unsafe_rate=mean(unsafe),
                length=mean(c.generated_tokens for c in completions),
                benign=len(refusals),
                harmful=len(unsafe),
                terms=term_stats(labelled),
            )
        )
    return stats


def term_stats(groups: list[Group]) -> list[TermStat]:
    """These groups by reward term, over the completions to which each applied."""
    values: dict[str, list[float]] = {}
    for group in groups:
        for completion in group.completions:
            for term in completion.scored.terms:
                if term.value is not None:
                    values.setdefault(term.name, []).append(term.value)
    return [TermStat(name=n, mean=fmean(v), completions=len(v)) for n, v in sorted(values.items())]


def rollout_numbers(groups: list[Group]) -> dict[str, Any]:
    """The fields of a StepRow that come from the groups alone."""
    completions = [c.scored for g in groups for c in g.completions]
    return {
        "groups": len(groups),
        "dropped_groups": sum(not g.live for g in groups),
        "reward_mean": mean(c.reward for c in completions if c.reward is not None),
        "reward_std": mean(g.reward_std for g in groups if g.completions),
        "advantage_abs": mean(abs(c.advantage) for g in groups for c in g.completions),
        "completion_length": mean(c.generated_tokens for c in completions),
        "truncated_fraction": mean(float(c.finish_reason == "length") for c in completions),
        "labels": label_stats(groups),
        "terms": term_stats(groups),
    }
