"""What a value model is worth: on groups it did not learn from, the grade of what it picks against mean and best of K.

The one headline figure, by dimension and apart for the first step and for the whole completion. An accuracy over all
completions would not do: it is high where a model knows no more than which prompts are hard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from stages.core.stage import Quality

if TYPE_CHECKING:
    from torch import Tensor

    from stages.models.value_record import ValueRecord
    from stages.train.supervised.value_examples import ValueGroup

SUMMARY = "summary.json"
"""Where a run keeps these figures."""
PLACES = {"first": "after the first step", "last": "at the end"}
# Values of equal prefixes differ by rounding alone.
_TIE = 1e-5


@dataclass(slots=True)
class Choice:
    """Choices in one dimension at one place, a number a group."""

    picked: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    pairs: int = 0
    ordered: float = 0.0

    def add(self, grades: list[float], values: list[float]) -> None:
        """One group: what its completions got, and what they were thought to get. Ties share the choice."""
        highest = max(values)
        self.picked.append(fmean(g for g, v in zip(grades, values, strict=True) if v > highest - _TIE))
        self.mean.append(fmean(grades))
        self.best.append(max(grades))
        for g, v in zip(grades, values, strict=True):
            for other, worth in zip(grades, values, strict=True):
                if g > other:
                    self.pairs += 1
                    self.ordered += 0.5 if abs(v - worth) <= _TIE else float(v > worth)

    def figures(self) -> dict[str, Any]:
        """Means over the groups; the gain of the choice over the mean with a normal 95 % interval, groups as units."""
        groups = len(self.mean)
        if not groups:
            return {"groups": 0}
        gains = [p - m for p, m in zip(self.picked, self.mean, strict=True)]
        half = 1.96 * stdev(gains) / math.sqrt(groups) if groups > 1 else math.inf
        interval = [fmean(gains) - half, fmean(gains) + half] if groups > 1 else None
        return {
            "groups": groups,
            "picked": fmean(self.picked),
            "mean": fmean(self.mean),
            "best": fmean(self.best),
            "gain": fmean(gains),
            "gain_interval": interval,
            "pairs_in_order": self.ordered / self.pairs if self.pairs else None,
        }


class Figures:
    """The choices on the held-out groups, group by group."""

    def __init__(self, record: ValueRecord, learned: int) -> None:
        self._record, self._learned = record, learned
        self._routed: list[float] = []
        self._choices = {(name, place): Choice() for name in record.dimensions for place in PLACES}

    def add(self, group: ValueGroup, logits_MD: Tensor) -> None:
        """One held-out group. Where fewer than two completions have a grade there is no choice."""
        begins, at = [], 0
        for own in group.ends:
            begins.append((at, at + len(own) - 1))
            at += len(own)
        values, targets = logits_MD.sigmoid().tolist(), group.targets_MD.tolist()
        for d, name in enumerate(self._record.dimensions):
            # At its end a completion's target is its own grade, or the mean of those with the very same tokens.
            known = [(first, last) for first, last in begins if not math.isnan(targets[last][d])]
            if len(known) < 2:
                continue
            grades = [targets[last][d] for _, last in known]
            self._choices[name, "first"].add(grades, [values[first][d] for first, _ in known])
            self._choices[name, "last"].add(grades, [values[last][d] for _, last in known])

    def route(self, group: ValueGroup, weights: list[float]) -> None:
        """How a router weighs one held-out group: the share of it that goes to dimensions that have a grade there."""
        graded_D = (~group.targets_MD.isnan()).any(0).tolist()
        self._routed.append(sum(w for w, graded in zip(weights, graded_D, strict=True) if graded))

    def summary(self) -> dict[str, Any]:
        """What the run's summary holds."""
        router = {"router": {"groups": len(self._routed), "on_graded": fmean(self._routed)}} if self._routed else {}
        return {
            **router,
            "step": self._record.step,
            "verifiers": self._record.verifiers,
            "groups_learned_from": self._learned,
            "held_out": {
                name: {place: self._choices[name, place].figures() for place in PLACES}
                for name in self._record.dimensions
            },
        }


def value_quality(steps: Quality, summary: dict[str, Any]) -> Quality:
    """The steps' quality with the headline figures; a warning for a dimension in which no choice beats the mean."""
    lines, flat = [], []
    for name, places in summary["held_out"].items():
        found = places["first"]
        if not found["groups"]:
            lines.append(f"{name} not measured")
            continue
        lines.append(
            f"{name} picked {found['picked']:.2f} of mean {found['mean']:.2f} and best {found['best']:.2f}"
            f" {PLACES['first']}"
        )
        if not any((places[place]["gain_interval"] or [0.0])[0] > 0 for place in PLACES):
            flat.append(name)
    warning = f"the value of {', '.join(flat)} picks no better than the mean of held-out groups" if flat else None
    hint = "it does not work yet: more groups, more steps, or a higher rate; nobody should be guided by it"
    return Quality(
        ", ".join([part for part in (steps.line, *lines) if part]),
        {**steps.numbers, "held_out": summary["held_out"]},
        steps.warning or warning,
        steps.failure,
        steps.hint or (hint if warning else ""),
    )
