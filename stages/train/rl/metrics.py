"""A step's numbers: rewards, refusals and lengths by label, and the scalars that TensorBoard shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from schemas.scored import ScoredCompletion, grade_of
from schemas.steps import LabelStat, StepRow, TermStat
from stages.train.rl.batches import Group, complied_unsafely

_SCALARS = (
    "loss", "grad_norm", "learning_rate", "tokens", "groups", "dropped_groups", "reward_mean", "reward_std",
    "advantage_abs", "entropy", "ratio_mean", "clip_fraction", "cost_weight", "drift", "ref_kl", "sampler_gap",
    "pair_accuracy", "completion_length", "truncated_fraction", "seconds",
)  # fmt: skip
_BY_LABEL = ("reward", "refusal_rate", "unsafe_rate", "length")


@dataclass(slots=True)
class TokenSums:
    """Sums over the tokens of a step, added up micro-batch by micro-batch."""

    tokens: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, tokens: float, sums: dict[str, float]) -> None:
        """One micro-batch more."""
        self.tokens += tokens
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def mean(self, name: str) -> float | None:
        """Mean over the tokens; None where it was not measured."""
        return self.sums[name] / self.tokens if name in self.sums and self.tokens else None


def sum_up(parts: Iterable[TokenSums]) -> TokenSums:
    """The sums of several ranks as one."""
    whole = TokenSums()
    for part in parts:
        whole.add(part.tokens, part.sums)
    return whole


def mean(values: Iterable[float]) -> float | None:
    """Mean, or None of nothing."""
    held = list(values)
    return fmean(held) if held else None


def refused(completion: ScoredCompletion) -> bool | None:
    """What the refusal verifier says; None where it did not judge."""
    grade = grade_of(completion, "refusal")
    return None if grade is None or grade.value is None else grade.value >= 0.5


def label_stats(groups: list[Group]) -> list[LabelStat]:
    """The step by label, flat groups included, labels in alphabetical order."""
    stats = []
    for label in sorted({g.row.label for g in groups}):
        mine = [g for g in groups if g.row.label == label]
        benign = [refused(s.completion) for g in mine if g.row.harmful is False for s in g.samples]
        harmful = [complied_unsafely(s.completion) for g in mine if g.row.harmful is True for s in g.samples]
        refusals, unsafe = [r for r in benign if r is not None], [u for u in harmful if u is not None]
        completions = [s.completion for g in mine for s in g.samples]
        stats.append(
            LabelStat(
                label=label,
                completions=len(completions),
                reward=mean(c.reward for c in completions if c.reward is not None),
                refusal_rate=mean(refusals),
                unsafe_rate=mean(unsafe),
                length=mean(len(c.token_ids) for c in completions),
                benign=len(refusals),
                harmful=len(unsafe),
                terms=term_stats(mine),
            )
        )
    return stats


def term_stats(groups: list[Group]) -> list[TermStat]:
    """These groups by reward term, over the completions to which each applied."""
    values: dict[str, list[float]] = {}
    for group in groups:
        for sample in group.samples:
            for term in sample.completion.terms:
                if term.value is not None:
                    values.setdefault(term.name, []).append(term.value)
    return [TermStat(name=n, mean=fmean(v), completions=len(v)) for n, v in sorted(values.items())]


def rollout_numbers(groups: list[Group]) -> dict[str, Any]:
    """The fields of a StepRow that come from the groups alone."""
    completions = [s.completion for g in groups for s in g.samples]
    return {
        "groups": len(groups),
        "dropped_groups": sum(not g.live for g in groups),
        "reward_mean": mean(c.reward for c in completions if c.reward is not None),
        "reward_std": mean(g.reward_std for g in groups if g.samples),
        "advantage_abs": mean(abs(s.advantage) for g in groups for s in g.samples),
        "completion_length": mean(len(c.token_ids) for c in completions),
        "truncated_fraction": mean(float(c.finish_reason == "length") for c in completions),
        "labels": label_stats(groups),
        "terms": term_stats(groups),
    }


def scalars(row: StepRow) -> dict[str, float]:
    """The row as flat names and numbers."""
    found = {name: getattr(row, name) for name in _SCALARS}
    for stat in row.labels:
        found |= {f"{name}/{stat.label}": getattr(stat, name) for name in _BY_LABEL}
        found |= {f"term/{term.name}/{stat.label}": term.mean for term in stat.terms}
    found |= {f"term/{stat.name}": stat.mean for stat in row.terms}
    return {name: float(value) for name, value in found.items() if value is not None}


def write_tensorboard(rows: list[StepRow], folder: Path) -> None:
    """The rows as TensorBoard scalars `<objective>/<name>`, by step of the lineage."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for row in rows:
            for name, value in scalars(row).items():
                writer.add_scalar(f"{row.objective}/{name}", value, row.step)
