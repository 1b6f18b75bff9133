"""Guided sampling: at each step K continuations, scored by value models, of which one is kept.

Value-guided steps at inference, as SafeWork-R1 has them (arXiv:2507.18576); shapes of step, route and log are our own
design. For each completion, until it has ended:

1. sample K continuations, each to the end of a step (or of the completion);
2. ask each value model what every one of them is going to get;
3. add the dimensions up by the prompt's weights, and keep the best candidate, the first of equal ones.

With several beams the best of all beams' candidates stay, by the mean of their choices' values (`beams`); with a
lookahead a candidate is judged together with what the policy would write behind it (`lookahead`).

Each step has noise of its own, so that a candidate that was left out is never drawn again at its place; K = 1 has the
noise of plain sampling, and is plain sampling. A completion so made is no sample of the policy: RL refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from schemas.rollouts import GuidedCandidate, GuidedStep, Sampling
from schemas.tables import STEPS_GUIDED
from stages.core.errors import UsageError
from stages.core.registry import plugin_key
from stages.core.stage import Context
from stages.engines.base import Engine, SampledCompletion, SampleRequest
from stages.engines.steps import STEP_ENDS
from stages.rollout.methods.base import Asked, Draw, DrawnGroup, RolloutMethod
from stages.rollout.methods.beams import Beams, Path, kept_of, picked
from stages.rollout.methods.guide_table import GuideTable
from stages.rollout.methods.lookahead import look_ahead
from stages.rollout.methods.step_values import AllValues, StepValues, step_rules
from stages.rollout.methods.values import ValueModels, Values, sources


@dataclass(frozen=True, slots=True)
class Offer:
    """A candidate, and what was looked at behind it."""

    sampled: SampledCompletion
    ahead: list[int]

    @property
    def usable(self) -> bool:
        """Whether there is anything of it."""
        return self.sampled.error is None and bool(self.sampled.token_ids)

    @property
    def judged(self) -> list[int]:
        """The ids by which it is judged."""
        return self.sampled.token_ids + self.ahead

    def logged(self, values: list[float]) -> GuidedCandidate:
        """The candidate as the table has it."""
        return GuidedCandidate(token_ids=self.sampled.token_ids, values=values, ahead=self.ahead)


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
        open_ = {one.request.id: (one, [Beams(i) for i in range(one.request.n)], list[GuidedStep]()) for one in asked}
        for step in range(self._guide.max_steps):
            last = step + 1 == self._guide.max_steps
            for ident, offered in self._offered([(one, own) for one, own, _ in open_.values()], step, last):
                one, completions, rows = open_[ident]
                for beams in completions:
                    if not beams.ended:
                        rows += self._choose(one, beams, offered[beams.index :: one.request.n], step)
                if all(beams.ended for beams in completions):
                    del open_[ident]
                    yield DrawnGroup(ident, [beams.completion() for beams in completions], rows)
            if not open_:
                break

    def _offered(
        self, going: list[tuple[Asked, list[Beams]]], step: int, last: bool
    ) -> Iterator[tuple[str, list[Offer]]]:
        """(prompt id, offers) of each prompt: number j of beam b of completion i of n at (b x k + j) x n + i.

        Empty for beams that have ended, or that there are not.
        """
        ends = [] if last else STEP_ENDS[self._guide.step]
        ends = [end for end in ends if end not in self._sampling.stop]
        sampling = replace(self._sampling, stop=[*self._sampling.stop, *ends])
        requests = {}
        for one, completions in going:
            request = self._request(one, completions, step)
            requests[request.id] = one.request.id, request
        sampled = self._engine.sample([request for _, request in requests.values()], sampling)
        if last or not self._guide.lookahead:
            for name, candidates in sampled:
                yield requests[name][0], [Offer(candidate, []) for candidate in candidates]
            return
        found = dict(sampled)
        asked = [(request, found[name]) for name, (_, request) in requests.items() if name in found]
        behind = look_ahead(self._engine, self._sampling, self._guide, ends, asked)
        for (request, candidates), ahead in zip(asked, behind, strict=True):
            yield requests[request.id][0], [Offer(*pair) for pair in zip(candidates, ahead, strict=True)]

    def _request(self, one: Asked, completions: list[Beams], step: int) -> SampleRequest:
        k, most, request = self._guide.k, self._guide.beams, one.request
        prefixes: list[list[int]] = []
        room: list[int] = []
        for place in range(most):
            paths = [beams.paths[place] if place < len(beams.paths) else None for beams in completions]
            going = [path if path is not None and path.ended is None else None for path in paths]
            prefixes += [path.token_ids if path else [] for path in going] * k
            room += [self._sampling.max_new_tokens - len(path.token_ids) if path else 0 for path in going] * k
        # Noise of its own for each step: what a candidate that was left out had drawn is not drawn again.
        name = request.id if k == 1 else f"{request.id}#{step}"
        return replace(request, id=name, n=request.n * k * most, prefix_ids=prefixes, limits=room)

    def _choose(self, one: Asked, beams: Beams, offers: list[Offer], step: int) -> list[GuidedStep]:
        """Keep the best beams of what goes on from them; the rows of the choice, none where nothing could be had."""
        k, most = self._guide.k, self._guide.beams
        weights = self._values.weights(one) if self._values else []
        paths: list[Path] = []
        places: list[tuple[int, int]] = []
        rows: dict[int, GuidedStep] = {}
        for number, path in enumerate(beams.paths):
            if path.ended is not None:
                paths.append(path)
                places.append((number, -1))
                continue
            own = offers[number * k : (number + 1) * k]
            usable = [at for at, offer in enumerate(own) if offer.usable]
            if not usable:
                continue
            values = dict(zip(usable, self._values_of(one, path, [own[at].judged for at in usable]), strict=True))
            rows[number] = GuidedStep(
                id=one.request.id,
                index=beams.index,
                step=step,
                from_token=len(path.token_ids),
                dimensions=self._values.dimensions if self._values else [],
                weights=weights,
                candidates=[offer.logged(values.get(at, [])) for at, offer in enumerate(own)],
                chosen=-1,
                beam=number,
            )
            for at in usable:
                total = sum(w * v for w, v in zip(weights, values[at], strict=True))
                paths.append(path.then(own[at].sampled, total, self._sampling))
                places.append((number, at))
        if not paths:
            beams.paths = [Path(ended=next(o.sampled for o in offers if not o.usable))]
            return []
        kept = kept_of(paths, most, lambda left, rank: self._picked(left, (one.request.id, beams.index, step, *rank)))
        beams.paths = [paths[at] for at in kept]
        return [noted(row, paths, places, kept, several=most > 1) for row in rows.values()]

    def _values_of(self, one: Asked, path: Path, candidates: list[list[int]]) -> list[list[float]]:
        if self._values is None:
            return [[] for _ in candidates]
        return self._values.of(one, path.token_ids, candidates)

    def _picked(self, totals: dict[int, float], name: tuple[object, ...]) -> int:
        return picked(self._guide, self._sampling.seed, totals, name)


def noted(
    row: GuidedStep, paths: list[Path], places: list[tuple[int, int]], kept: list[int], several: bool
) -> GuidedStep:
    """The row with what was kept of its candidates, and of several beams with what each candidate's path is worth."""
    became = {places[at]: beam for beam, at in enumerate(kept)}
    own = {at: became.get((row.beam, at)) for number, at in places if number == row.beam}
    staying = [at for at, beam in own.items() if beam is not None]
    chosen = min(staying, key=lambda at: own[at] or 0, default=-1)
    candidates = row.candidates
    if several:
        worth = {at: path.cumulative for path, (number, at) in zip(paths, places, strict=True) if number == row.beam}
        candidates = [
            replace(candidate, cumulative=worth.get(at), beam=own.get(at)) for at, candidate in enumerate(candidates)
        ]
    return replace(row, chosen=chosen, candidates=candidates)
