"""What is asked of a machine and what a step of a recipe takes of it: the words that `cosmo plan` is written in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cosmo_cli.recipe.schema import Recipe, with_shared
from cosmo_cli.recipe.tables import flatten, overridden
from stages.capacity.machine import Machine
from stages.capacity.shape import Shape
from stages.capacity.units import PROMPT_TOKENS, Parts
from stages.core.config import build
from stages.core.executors.base import LOCAL
from stages.core.stage_list import load_config


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a step can't be done on the machine."""

    text: str
    """One line that names the values."""
    hint: str
    """What to type."""
    certain: bool = True
    """False where it rests on how long prompts and completions may get: they need not."""


@dataclass(slots=True)
class StepPlan:
    """What one step takes."""

    name: str
    """Phase and stage, as in `stage1 train`."""
    how: str
    """Layout or engine, and on how many GPUs."""
    gpu: dict[str, Parts] = field(default_factory=dict)
    """Bytes of one GPU at the moments when it may be fullest."""
    gpu_limit: int = 0
    """What tensors can have of it; 0 where the step uses none."""
    host: Parts = field(default_factory=dict)
    """Bytes of the machine's memory."""
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is slower than it could be, or not counted."""

    @property
    def fullest(self) -> Parts:
        """The parts of the moment when a GPU is fullest."""
        return max(self.gpu.values(), key=lambda parts: sum(parts.values()), default={})

    @property
    def gpu_bytes(self) -> int:
        """Of one GPU, at its fullest."""
        return sum(self.fullest.values())

    @property
    def host_bytes(self) -> int:
        """Of the machine's memory."""
        return sum(self.host.values())


@dataclass(frozen=True, slots=True)
class Question:
    """A recipe, and the machine that it is asked about."""

    recipe: Recipe
    machine: Machine
    shape: Shape
    prompt_tokens: int = PROMPT_TOKENS
    executor: str = LOCAL
    """Who does the shards of rollouts."""

    def config(self, verb: str, own: dict[str, Any], more: dict[str, Any] | None = None) -> Any:
        """A stage's config: the recipe's table, a phase's own over it, and `more`, dotted keys, over both."""
        values = overridden(with_shared(self.recipe, verb), {**flatten(own), **(more or {})})
        return build(load_config(verb), values, verb)

    def new_tokens(self, own: dict[str, Any]) -> int:
        """The longest completion of a rollout, with what an environment writes into it."""
        rollout = self.config("rollout", own)
        place = rollout.environment
        if not place.name:
            return int(rollout.max_new_tokens)
        return int(place.max_total_tokens or rollout.max_new_tokens + place.max_turns * place.max_observation)

    @property
    def longest_completion(self) -> int:
        """Of any of its phases with rollouts; references are taken to be no longer."""
        return max((self.new_tokens(p.rollout) for p in self.recipe.phases if p.needs_rollouts), default=0) or (
            self.new_tokens({})
        )
