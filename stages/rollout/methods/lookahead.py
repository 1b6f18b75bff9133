"""A look ahead of a guided choice: what the policy would most likely write behind each candidate, to judge it by.

Greedy, as in public search with step rewards: it stands for a candidate's future and must not be better or worse by
chance. What it writes is judged with the candidate, logged, and dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from schemas.rollouts import Sampling
from stages.engines.base import Engine, SampledCompletion, SampleRequest
from stages.rollout.methods.guide_table import STEP, GuideTable


@dataclass(slots=True)
class Ahead:
    """The candidates of one prompt, each with what was written behind it so far."""

    request: SampleRequest
    """The request that they were sampled by."""
    candidates: list[SampledCompletion]
    going: list[bool]
    """Whether each still goes on: it ended a step alone, and has room."""
    ids: list[list[int]]
    """What stands behind each, as many as candidates."""

    @classmethod
    def behind(cls, request: SampleRequest, candidates: list[SampledCompletion], ends: list[str]) -> Ahead:
        """Nothing yet; `ends` are the texts that end a step and no completion."""
        going = [c.error is None and bool(c.token_ids) and c.stopped_by in ends for c in candidates]
        return cls(request, candidates, going, [[] for _ in candidates])

    def asked(self, most: int, tokens: int, name: str) -> SampleRequest:
        """The next round's request: `most` tokens in all, no more than `tokens` of them new where that is not 0."""
        prefixes, limits = [], []
        for at, candidate in enumerate(self.candidates):
            prefix = [*self.request.prefix(at), *candidate.token_ids, *self.ids[at]]
            room = max(0, most - len(prefix)) if self.going[at] else 0
            prefixes.append(prefix if room else [])
            limits.append(min(room, tokens) if tokens else room)
        return replace(self.request, id=name, prefix_ids=prefixes, limits=limits)

    def add(self, samples: list[SampledCompletion], ends: list[str]) -> None:
        """A round's words; one that failed adds nothing and goes no further."""
        for at, sampled in enumerate(samples):
            if self.going[at] and sampled.error is None:
                self.ids[at] = self.ids[at] + list(sampled.token_ids)
            self.going[at] = self.going[at] and sampled.error is None and sampled.stopped_by in ends


def look_ahead(
    engine: Engine,
    sampling: Sampling,
    guide: GuideTable,
    ends: list[str],
    offered: list[tuple[SampleRequest, list[SampledCompletion]]],
) -> list[list[list[int]]]:
    """For each prompt's request and candidates, what stands behind each of these; empty where one has ended.

    `ends` are the texts that end a step and no completion.
    """
    found = [Ahead.behind(request, candidates, ends) for request, candidates in offered]
    by_step = guide.lookahead_unit == STEP
    greedy = replace(sampling, temperature=0.0, top_p=1.0, top_k=0, stop=[*sampling.stop, *(ends if by_step else [])])
    for number in range(guide.lookahead if by_step else 1):
        names = {f"{one.request.id}+{number}": one for one in found if any(one.going)}
        tokens = 0 if by_step else guide.lookahead
        requests = [one.asked(sampling.max_new_tokens, tokens, name) for name, one in names.items()]
        for name, samples in engine.sample(requests, greedy):
            names[name].add(samples, ends)
    return [one.ids for one in found]
