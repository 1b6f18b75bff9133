"""Values of candidates by rule: what a verifier of steps says of a completion's steps so far (our own design).

A value model guesses what a whole completion is going to get; a verifier of steps looks at what stands there. Its rule
may know the row's scene, as in the built-in world: then what it guides to is a bound of what guidance could do, and no
policy's own merit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from schemas.scored import OK
from stages.core.errors import UsageError
from stages.core.registry import load, short_name
from stages.engines.steps import text_steps
from stages.rollout.methods.guide_table import GuideTable
from stages.rollout.methods.values import Values, check_route, route

if TYPE_CHECKING:
    from stages.engines.base import Engine
    from stages.rollout.methods.base import Asked

NOTHING_SAID = 0.5
"""The value of a candidate as long as no step of it says anything to look up: between a true one and a false one."""


def step_rules(guide: GuideTable) -> dict[str, Callable[..., Any]]:
    """The rules by what their verifiers are called; UsageError for a verifier that grades no steps."""
    found = {}
    for name in guide.verifiers:
        rule = getattr(load("verifier", name), "steps", None)
        if rule is None:
            raise UsageError(
                f"the verifier {name} grades no steps by rule, and guidance asks at each step",
                "guide.verifiers=['step_support']; of any other grade a value model: cosmo train --objective value",
            )
        found[short_name(name)] = rule
    return found


class StepValues(Values):
    """The mean grade of the steps up to a candidate's end, by verifier."""

    def __init__(self, guide: GuideTable, engine: Engine) -> None:
        self._guide, self._engine, self._rules = guide, engine, step_rules(guide)
        self.dimensions = list(self._rules)
        if not guide.values:
            check_route(guide, self.dimensions)

    def weights(self, asked: Asked) -> list[float]:
        """As the route has them; alike where it goes by label."""
        return route(self._guide, self.dimensions, {}, asked.prompt.label)

    def of(self, asked: Asked, prefix: list[int], candidates: list[list[int]]) -> list[list[float]]:
        """Means of the steps that say something to look up; NOTHING_SAID where none does."""
        found = []
        for ids in candidates:
            steps = text_steps(self._engine.decode([*prefix, *ids]), self._guide.step)
            found.append([_mean(rule(asked.prompt, steps)) for rule in self._rules.values()])
        return found


class AllValues(Values):
    """Several sorts of values side by side, weighed by the route's table."""

    def __init__(self, guide: GuideTable, parts: list[Values]) -> None:
        self._guide, self._parts = guide, parts
        self.dimensions = [name for part in parts for name in part.dimensions]
        check_route(guide, self.dimensions)

    def weights(self, asked: Asked) -> list[float]:
        """As the route's table has them."""
        return route(self._guide, self.dimensions, {}, asked.prompt.label)

    def of(self, asked: Asked, prefix: list[int], candidates: list[list[int]]) -> list[list[float]]:
        """Each part's values, in the order of the dimensions."""
        by_part = [part.of(asked, prefix, candidates) for part in self._parts]
        return [[value for values in of_candidate for value in values] for of_candidate in zip(*by_part, strict=True)]


def _mean(judgements: list[Any]) -> float:
    values = [float(j.value) for j in judgements if j.status == OK]
    return math.fsum(values) / len(values) if values else NOTHING_SAID
