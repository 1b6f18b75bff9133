"""Guided sampling: at each step K continuations, scored by value models, of which one is kept.

Value-guided steps at inference, as SafeWork-R1 has them (arXiv:2507.18576); shapes of step, route and log are our own
design. For each completion, until it has ended:

1. sample K continuations, each to the end of a step (or of the completion);
2. ask each value model what every one of them is going to get;
3. add the dimensions up by the prompt's weights, and keep the best candidate, the first of equal ones.

Each step has noise of its own, so that a candidate that was left out is never drawn again at its place; K = 1 has the
noise of plain sampling, and is plain sampling. A completion so made is no sample of the policy: RL refuses it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.rollouts import FinishReason, GuidedCandidate, GuidedStep, Sampling
from schemas.tables import STEPS_GUIDED
from stages.core.errors import UsageError
from stages.core.registry import plugin_key
from stages.core.seeded import seeded_digest
from stages.core.stage import Context
from stages.engines.base import Engine, SampledCompletion
from stages.engines.steps import STEP_ENDS
from stages.rollout.methods.base import Asked, Draw, DrawnCompletion, DrawnGroup, RolloutMethod
from stages.rollout.methods.guide_table import RANDOM, SOFTMAX, GuideTable
from stages.rollout.methods.step_values import AllValues, StepValues, step_rules
from stages.rollout.methods.values import ValueModels, Values, sources


@dataclass(slots=True)
class Path:
    """One completion in the making."""

    index: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: SampledCompletion | None = None
    """The candidate that ended it."""

    def completion(self) -> DrawnCompletion:
        """What came of it; its error where no candidate of a step could be had."""
        if self.ended is None or self.ended.error is not None:
            return DrawnCompletion.of(self.ended or SampledCompletion.failed("it was never ended"))
        return DrawnCompletion(
            self.token_ids, self.logprobs, self.ended.finish_reason, stopped_by=self.ended.stopped_by, guided=True
        )


class Guided(RolloutMethod):
    """Completions of which each step is the best of K by the value models of `[rollout.guide]`."""

    table = STEPS_GUIDED

    def __init__(self, guide: GuideTable) -> None:
        self._guide = guide

    def key(self, ctx: Context) -> dict[str, Any]:
        """The value models by content, each with the dimensions it is asked for."""
        if ctx.config.temperature == 0 and self._guide.k > 1:
            raise UsageError("guide.k candidates of a greedy sampler are all alike", "--set temperature=1.0")
        key: dict[str, Any] = {}
        if self._guide.values:
            key["values"] = [[source.ref.id, source.dimensions] for source in sources(self._guide)]
        if self._guide.verifiers:
            key["guide_verifiers"] = [plugin_key("verifier", name) for name in self._guide.verifiers]
            step_rules(self._guide)
        return key

    def open(self, ctx: Context, engine: Engine, sampling: Sampling) -> Draw:
        """Load the value models, and find the rules that grade steps."""
        found: list[Values] = [ValueModels(ctx, self._guide)] if self._guide.values else []
        if self._guide.verifiers:
            found.append(StepValues(self._guide, engine))
        values = AllValues(self._guide, found) if len(found) > 1 else found[0] if found else None
        return Guide(self._guide, values, engine, sampling).draw


class Guide:
    """The choices of one shard after another."""

    def __init__(self, guide: GuideTable, values: Values | None, engine: Engine, sampling: Sampling) -> None:
        self._guide, self._values, self._engine, self._sampling = guide, values, engine, sampling

    def draw(self, asked: Sequence[Asked]) -> Iterator[DrawnGroup]:
        """A shard's prompts side by side, one step after the other; a prompt goes when its last completion ends."""
        open_ = {one.request.id: (one, [Path(i) for i in range(one.request.n)], list[GuidedStep]()) for one in asked}
        for step in range(self._guide.max_steps):
            last = step + 1 == self._guide.max_steps
            offered = self._candidates([(one, paths) for one, paths, _ in open_.values()], step, last)
            for ident, candidates in offered:
                one, paths, rows = open_[ident]
                for path in paths:
                    if path.ended is None:
                        rows += self._choose(one, path, candidates[path.index :: one.request.n], step)
                if all(path.ended is not None for path in paths):
                    del open_[ident]
                    yield DrawnGroup(ident, [path.completion() for path in paths], rows)
            if not open_:
                break

    def _candidates(
        self, going: list[tuple[Asked, list[Path]]], step: int, last: bool
    ) -> Iterator[tuple[str, list[SampledCompletion]]]:
        """(prompt id, candidates) of each prompt: number j of completion i of n at j x n + i, empty for ended ones."""
        ends = [] if last else STEP_ENDS[self._guide.step]
        sampling = replace(
            self._sampling, stop=[*self._sampling.stop, *(e for e in ends if e not in self._sampling.stop)]
        )
        requests, names = [], {}
        for one, paths in going:
            room = [0 if p.ended else self._sampling.max_new_tokens - len(p.token_ids) for p in paths]
            begun = [[] if p.ended else p.token_ids for p in paths]
            k, request = self._guide.k, one.request
            # Noise of its own for each step: what a candidate that was left out had drawn is not drawn again.
            name = request.id if k == 1 else f"{request.id}#{step}"
            names[name] = request.id
            requests.append(replace(request, id=name, n=request.n * k, prefix_ids=begun * k, limits=room * k))
        for name, candidates in self._engine.sample(requests, sampling):
            yield names[name], candidates

    def _choose(self, one: Asked, path: Path, candidates: list[SampledCompletion], step: int) -> list[GuidedStep]:
        """Put the chosen candidate behind the path; the row of the choice, none where no candidate could be had."""
        usable = [at for at, candidate in enumerate(candidates) if candidate.error is None and candidate.token_ids]
        if not usable:
            path.ended = next(c for c in candidates if not c.token_ids)
            return []
        found = self._values_of(one, path, [candidates[at].token_ids for at in usable])
        values = dict(zip(usable, found, strict=True))
        weights = self._values.weights(one.prompt.label) if self._values else []
        totals = {at: sum(w * v for w, v in zip(weights, values[at], strict=True)) for at in usable}
        chosen = self._picked(totals, (one.request.id, path.index, step))
        row = GuidedStep(
            id=one.request.id,
            index=path.index,
            step=step,
            from_token=len(path.token_ids),
            dimensions=self._values.dimensions if self._values else [],
            weights=weights,
            candidates=[
                GuidedCandidate(token_ids=c.token_ids, values=values.get(at, [])) for at, c in enumerate(candidates)
            ],
            chosen=chosen,
        )
        kept = candidates[chosen]
        path.token_ids, path.logprobs = path.token_ids + kept.token_ids, path.logprobs + kept.logprobs
        # What ends a step alone ends no completion, unless it is also one of the run's own texts.
        if kept.stopped_by is None or kept.stopped_by in self._sampling.stop:
            path.ended = kept
        elif len(path.token_ids) >= self._sampling.max_new_tokens:
            path.ended = replace(kept, finish_reason=FinishReason.LENGTH, stopped_by=None)
        return [row]

    def _values_of(self, one: Asked, path: Path, candidates: list[list[int]]) -> list[list[float]]:
        if self._values is None:
            return [[] for _ in candidates]
        return self._values.of(one, path.token_ids, candidates)

    def _picked(self, totals: dict[int, float], name: tuple[object, ...]) -> int:
        """The place that is kept: of equal ones the first. What is drawn is drawn by seed, prompt, index and step."""
        drawn = int.from_bytes(seeded_digest(self._sampling.seed, "guide", *name)[:7], "big") / 2**56
        if self._guide.pick == RANDOM:
            return list(totals)[int(drawn * len(totals))]
        best = max(totals, key=lambda at: (totals[at], -at))
        if self._guide.pick != SOFTMAX:
            return best
        shares = {at: math.exp((total - totals[best]) / self._guide.softness) for at, total in totals.items()}
        drawn *= sum(shares.values())
        for at, share in shares.items():
            drawn -= share
            if drawn < 0:
                return at
        return best
