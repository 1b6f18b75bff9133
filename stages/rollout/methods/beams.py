"""Beams of a guided completion: its beginnings that are still in the race, and which of their continuations stay.

Beam search over steps, as in public search with step rewards; what a beam is worth is our own choice: the mean of its
choices' values, so that one of few steps that has ended and one of many can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from schemas.rollouts import FinishReason, Sampling
from stages.core.seeded import seeded_digest
from stages.engines.base import SampledCompletion
from stages.rollout.methods.base import DrawnCompletion
from stages.rollout.methods.guide_table import RANDOM, SOFTMAX, GuideTable


@dataclass(frozen=True, slots=True)
class Path:
    """One beginning of a completion."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: SampledCompletion | None = None
    """The candidate that ended it."""
    totals: tuple[float, ...] = ()
    """The weighed value of each choice that led here."""

    @property
    def cumulative(self) -> float:
        """The mean of its choices' values, 0.0 before the first."""
        return math.fsum(self.totals) / len(self.totals) if self.totals else 0.0

    def then(self, kept: SampledCompletion, total: float, sampling: Sampling) -> Path:
        """The path with a candidate behind it; it has ended where the candidate ended more than a step."""
        ids, logprobs = self.token_ids + kept.token_ids, self.logprobs + kept.logprobs
        ended = None
        # What ends a step alone ends no completion, unless it is also one of the run's own texts.
        if kept.stopped_by is None or kept.stopped_by in sampling.stop:
            ended = kept
        elif len(ids) >= sampling.max_new_tokens:
            ended = replace(kept, finish_reason=FinishReason.LENGTH, stopped_by=None)
        return Path(ids, logprobs, ended, (*self.totals, total))


@dataclass(slots=True)
class Beams:
    """One completion in the making, best beam first."""

    index: int
    paths: list[Path] = field(default_factory=lambda: [Path()])

    @property
    def ended(self) -> bool:
        """Whether no beam goes on."""
        return all(path.ended is not None for path in self.paths)

    def completion(self) -> DrawnCompletion:
        """What came of it; its error where no candidate of a step could be had."""
        best = self.paths[0]
        if best.ended is None or best.ended.error is not None:
            return DrawnCompletion.of(best.ended or SampledCompletion.failed("it was never ended"))
        return DrawnCompletion(
            best.token_ids, best.logprobs, best.ended.finish_reason, stopped_by=best.ended.stopped_by, guided=True
        )


def kept_of(paths: list[Path], most: int, pick: Callable[[dict[int, float], tuple[int, ...]], int]) -> list[int]:
    """The places of the paths that stay, at most so many, in the order in which they were picked.

    `pick` is given the values of what is left, and a name for this pick among those of the step. Of several with the
    same tokens only the first is looked at, for a second would be sampled from alike.
    """
    left: dict[int, float] = {}
    known: set[tuple[int, ...]] = set()
    for place, path in enumerate(paths):
        ids = tuple(path.token_ids)
        # Of one beam the last choice alone is compared: what was before it is the same for all.
        if most == 1 or ids not in known:
            left[place] = path.totals[-1] if most == 1 else path.cumulative
        known.add(ids)
    kept: list[int] = []
    while left and len(kept) < most:
        kept.append(pick(left, (len(kept),) if kept else ()))
        del left[kept[-1]]
    return kept


def picked(guide: GuideTable, seed: int, totals: dict[int, float], name: tuple[object, ...]) -> int:
    """The place that is kept: of equal ones the first. What is drawn is drawn by seed, prompt, index and step."""
    drawn = int.from_bytes(seeded_digest(seed, "guide", *name)[:7], "big") / 2**56
    if guide.pick == RANDOM:
        return list(totals)[int(drawn * len(totals))]
    best = max(totals, key=lambda at: (totals[at], -at))
    if guide.pick != SOFTMAX:
        return best
    shares = {at: math.exp((total - totals[best]) / guide.softness) for at, total in totals.items()}
    drawn *= sum(shares.values())
    for at, share in shares.items():
        drawn -= share
        if drawn < 0:
            return at
    return best
