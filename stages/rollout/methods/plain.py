"""Plain sampling: each completion from its prompt to its end, in one go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from schemas.rollouts import Sampling
from stages.core.stage import Context
from stages.engines.base import Engine
from stages.rollout.methods.base import Asked, Draw, DrawnCompletion, DrawnGroup, RolloutMethod


class Plain(RolloutMethod):
    """What the engine samples, as it samples it."""

    goes_on = True

    def open(self, ctx: Context, engine: Engine, sampling: Sampling) -> Draw:
        """A shard's requests go to the engine together."""

        def draw(asked: Sequence[Asked]) -> Iterator[DrawnGroup]:
            begun = {one.prompt.id: one.beginning for one in asked}
            for ident, samples in engine.sample([one.request for one in asked], sampling):
                yield DrawnGroup(ident, [DrawnCompletion.of(one, begun[ident]) for one in samples])

        return draw
