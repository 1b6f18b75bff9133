"""A value model: what grade a completion will get, told at the end of each of its steps; one number a verifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.tables import SCORED
from stages.core.config import option
from stages.core.errors import UsageError
from stages.train.objectives.base import Objective, supervised_quality

if TYPE_CHECKING:
    from schemas.steps import StepRow
    from stages.core.runs.folder import RunFolder
    from stages.core.stage import Context, Quality
    from stages.models.load import Policy
    from stages.models.policy_ref import PolicyRef
    from stages.train.config import TrainConfig
    from stages.train.session import Session


@dataclass(frozen=True)
class ValueOptions:
    """What is predicted, where, and how it is learned."""

    dimensions: list[str] = option([], "Verifiers whose grades are predicted: answer, safety, value, knowledge, ...")
    step: str = option("sentence", "What ends a step", choices=("sentence", "line", "tag"))
    pairs: float = option(1.0, "Weight of the order within a group beside the grades themselves; 0: none", low=0.0)
    router: bool = option(False, "Learn from the prompt how much each grade counts, too: guide.route = learned")
    held_out: float = option(0.1, "Share of the prompts that is measured and not learned from", low=0.0, high=0.9)


class Value(Objective):
    """Predict grades at the ends of steps, and tell a group's better completions from its worse ones."""

    called = "a value model"
    title = "Value model training"
    reads = (SCORED,)
    reward_model = True
    phase = False
    # A step's means are over whole groups, and its body is called past what wraps a model for several processes.
    several_ranks = False
    settings = ValueOptions

    def check(self, ctx: Context) -> None:
        """The inputs; UsageError where it is not said whose grades are to be predicted."""
        super().check(ctx)
        names = ctx.config.objective_settings().dimensions
        if not names or len(set(names)) < len(names):
            what = "names a verifier twice" if names else "is empty: whose grades are to be predicted?"
            raise UsageError(
                f"objectives.value.dimensions {what}", '--set \'objectives.value.dimensions=["answer", "safety"]\''
            )

    def load(self, ref: PolicyRef, config: TrainConfig, **machine: Any) -> Policy:
        """The policy with a new head, or the value model with the head that it has."""
        from stages.models.load import load_value_model
        from stages.models.value_record import ValueRecord

        options: ValueOptions = config.objective_settings()
        return load_value_model(ref, ValueRecord(options.dimensions, options.step), **machine)

    def train(self, session: Session) -> None:
        """Learn from the groups' steps, and measure on the groups that are held out."""
        from stages.train.supervised.value_trainer import train_value

        train_value(session)

    def quality_of(self, folder: RunFolder, rows: list[StepRow]) -> Quality:
        """Loss, and what is picked on held-out groups; a warning where that is no better than the mean."""
        from stages.core.atomic import read_json
        from stages.train.supervised.value_figures import SUMMARY, value_quality

        return value_quality(supervised_quality(rows), read_json(folder.artifact(SUMMARY)))


PLUGIN = Value()
