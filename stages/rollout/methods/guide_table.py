"""What `[rollout.guide]` can say: whose values guide, how many candidates there are, and how one is picked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.core.config import option
from stages.core.errors import UsageError

LABEL = "label"
"""The route that weighs dimensions by the prompt's label, as the reward of the value models' groups did."""
LEARNED = "learned"
"""The route that a value model's router takes from the prompt."""
STEP, TOKEN = "step", "token"
ARGMAX, SOFTMAX, RANDOM = "argmax", "softmax", "random"


@dataclass(frozen=True)
class GuideTable:
    """Guided sampling: at each step several continuations, of which the one that value models like best is kept."""

    # By content: what the runs hold is in the plan's key, where they lie is not.
    values: Any = option(
        "", "Value models: one train run, or a run a dimension: {safety = RUN, answer = RUN}", affects=False
    )
    # With its code in the plan's key.
    verifiers: list[str] = option(
        [],
        "Verifiers of steps, by rule, each a dimension: the mean grade of a candidate's steps and those before it",
        affects=False,
    )
    k: int = option(1, "Continuations sampled at each step; 1 is plain sampling", low=1)
    step: str = option("sentence", "What ends a step: as the value models learned", choices=("sentence", "line", "tag"))
    max_steps: int = option(12, "Choices a completion, at most: the last one is between completions to the end", low=1)
    beams: int = option(1, "Beginnings of each completion that are kept, k continuations each, by mean value", low=1)
    lookahead: int = option(0, "What is sampled behind each candidate, greedily, to judge it by, and dropped", low=0)
    lookahead_unit: str = option(STEP, "What lookahead counts", choices=(STEP, TOKEN))
    route: Any = option(
        LABEL,
        "Weights of the dimensions: label, as the reward has them for the prompt's; learned, by the value model's"
        " router; or {safety = 0.6, ...}",
    )
    pick: str = option(
        ARGMAX, "The best candidate, one drawn by its value, or any (a control)", choices=(ARGMAX, SOFTMAX, RANDOM)
    )
    softness: float = option(0.1, "pick = softmax: candidates are drawn by exp(value / softness)", low=1e-6)

    def __post_init__(self) -> None:
        """UsageError for values and routes that are neither of their two forms, and for values that nobody named."""
        if not isinstance(self.values, str) and not _table_of(self.values, str):
            raise UsageError(
                f"rollout.guide.values = {self.values!r} is no train run and no table of them",
                "values = 'runs/train-1a2b3c4d', or { safety = 'runs/train-1a2b3c4d' }",
            )
        numbers = _table_of(self.route, (int, float))
        weighs = numbers and min(self.route.values()) >= 0 < sum(self.route.values())
        if self.route not in (LABEL, LEARNED) and not weighs:
            raise UsageError(
                f"rollout.guide.route = {self.route!r} is not {LABEL!r}, not {LEARNED!r} and no table of weights",
                "route = { answer = 0.5, safety = 0.5 }",
            )
        if self.k > 1 and self.pick != RANDOM and not self.values and not self.verifiers:
            raise UsageError(
                "rollout.guide picks by value, and names no value model",
                "--set guide.values=RUN (cosmo train SCORED --objective value), guide.verifiers or guide.pick=random",
            )
        if self.beams > 1 and self.k == 1:
            raise UsageError(f"rollout.guide.beams = {self.beams} with one continuation each", "--set guide.k=4")
        if self.lookahead and not (self.values or self.verifiers):
            raise UsageError(
                f"rollout.guide.lookahead = {self.lookahead}, and nothing is judged by it",
                "--set guide.values=RUN or guide.verifiers; or leave it out",
            )
        if self.verifiers and self.route == LEARNED:
            raise UsageError(
                "rollout.guide.route = 'learned' weighs what a value model predicts, and no verifiers",
                "route = { answer = 0.5, step_support = 0.5 }",
            )
        if self.values and self.verifiers and self.route == LABEL:
            raise UsageError(
                "rollout.guide has value models and verifiers: how much each counts follows from no label",
                "route = { answer = 0.5, step_support = 0.5 }",
            )


def _table_of(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(v, kind) for v in value.values())
