"""A turn's policy is sampled from before its run has a receipt: where that can be, and who says that it was read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cosmo_cli.recipe.schema import Recipe, with_shared
from cosmo_cli.recipe.steps import Step
from cosmo_cli.recipe.tables import Ref
from stages.core.executors.base import LOCAL
from stages.core.resources import Resources
from stages.core.stage import Progress
from stages.engines.base import engine_name
from stages.models.warm import POLICY, READ, TRAINED, policy_was_read

_ENGINES = ("transformers", "vllm")
"""Those that load a policy once, when they begin: a server may read it whenever it likes."""


def goes_on_before_commit(recipe: Recipe, executor: str, step: Step, config: Any, following: list[Step]) -> bool:
    """Whether what comes next can begin before the step's run has its receipt: a rollout of the same phase that samples
    from its policy on this machine, where nothing that the receipt brings may end the recipe."""
    turn = step.verb == "train" and step.iterations > 1
    if not turn or step.ends_phase or not following or following[0].verb != "rollout":
        return False
    # With a lag it samples with an earlier one.
    if following[0].overrides["policy"] != Ref(step.name):
        return False
    here = engine_of(recipe, following[0]) in _ENGINES and executor == LOCAL
    return here and config.nnodes == 1 and config.watch.action != "stop"


def engine_of(recipe: Recipe, rollout: Step) -> str:
    """The engine of a rollout step."""
    return engine_name(str({**with_shared(recipe, "rollout"), **rollout.overrides}.get("engine", "auto")))


def can_be_sampled(resources: Resources, path: Path) -> bool:
    """Whether the policy of a run that was just trained is in memory, as a sampler takes it, or was handed over."""
    ref = resources.peek(TRAINED, str(path))
    if ref is None:
        return False
    return resources.peek(READ, "") is not None or resources.peek(POLICY, ref.id) is not None


class Reading:
    """A rollout's progress. With the first completion the policy has been read; other stages read none."""

    def __init__(self, progress: Progress, resources: Resources) -> None:
        self._progress, self._resources = progress, resources
        self._read = False

    def start(self, what: str, total: int | None, unit: str) -> None:
        """Nothing is read yet."""
        self._progress.start(what, total, unit)

    def advance(self, n: int = 1, **numbers: float | str) -> None:
        """A completion is done: the policy was read."""
        if n > 0 and not self._read:
            self._read = True
            policy_was_read(self._resources)
        self._progress.advance(n, **numbers)

    def log(self, message: str) -> None:
        """It says nothing of the policy."""
        self._progress.log(message)
