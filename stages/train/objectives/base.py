"""What an objective plugin is: what it learns from, what it changes in a plan, and the training itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from schemas.tables import PROMPTS, SCORED, Table
from stages.core.config import key_of
from stages.core.errors import InputError, UsageError
from stages.core.registry import short_name
from stages.core.runner import accepts
from stages.core.stage import Context, Quality
from stages.models.policy_ref import PolicyRef, resolve_policy

if TYPE_CHECKING:
    from schemas.steps import StepRow
    from stages.core.runs.folder import RunFolder
    from stages.models.load import Policy
    from stages.train.config import TrainConfig
    from stages.train.session import Session


class Objective(ABC):
    """One thing that can be minimised. Declare `called` and `title` and override `train`; all else has a default.

    A plan is made without torch, so the plugin's file imports it, and whatever needs it, inside `train`.

    Example:

        class Imitation(Objective):
            called = "imitation"
            title = "Imitation"
            reads = (SCORED, PROMPTS)

            def train(self, session):
                from my_package.imitation import imitate

                imitate(session)

        PLUGIN = Imitation()
    """

    version: ClassVar[int] = 1
    """Raised when the same inputs and settings would give another policy."""
    called: ClassVar[str]
    """What messages call it: `SFT`, `a verifier`."""
    title: ClassVar[str]
    """What a report and a model's card call it: `Supervised fine-tuning`."""
    tags: ClassVar[tuple[str, ...]] = ()
    """Tags that the card of a model trained by it has."""
    reads: ClassVar[tuple[Table, ...]] = (SCORED,)
    """Tables it learns from. With prompts among them it needs no rollouts: a recipe's phase of it is one training."""
    learning_rate: ClassVar[float] = 1e-5
    """The peak rate where `learning_rate` is left open."""
    freezes_vision: ClassVar[bool] = False
    """Whether the vision tower stays as it is where `freeze_vision` is left open."""
    reward_model: ClassVar[bool] = False
    """It trains a model with a head for numbers; else one that writes."""
    phase: ClassVar[bool] = True
    """Whether it can be a phase of a recipe: what it trains is a policy for the phases after it."""
    several_ranks: ClassVar[bool] = True
    """Whether it can train on several processes."""
    watched: ClassVar[bool] = False
    """Whether its steps are looked at by the drift alarms, which compare what a policy samples."""
    settings: ClassVar[type[Any] | None] = None
    """A frozen dataclass of `option`s: the objective's own table, `[train.objectives.NAME]`, by the plugin's name."""

    def check(self, ctx: Context) -> None:
        """Refuse inputs and settings that can't be right: InputError, UsageError. Called while planning.

        By default every input has to be readable as one of `reads`.
        """
        for folder in ctx.inputs:
            if accepts(self.reads, folder) is None:
                rows = "prompts" if PROMPTS in self.reads else "scored groups"
                raise InputError(
                    f"{folder.where} holds {folder.table}, and {self.called} learns from {rows}",
                    f"cosmo score {folder.where}, or --objective sft",
                )

    def start_policy(self, ctx: Context) -> PolicyRef:
        """The policy to start from: by default the one that was named; UsageError where none was."""
        if not ctx.config.policy:
            raise UsageError(
                f"{self.called} was given no policy to start from",
                "add --policy, for example --policy tiny:qwen2_5_vl",
            )
        return resolve_policy(ctx.config.policy)

    def load(self, ref: PolicyRef, config: TrainConfig, **machine: Any) -> Policy:
        """The model to train, on the machine that `load_policy` is told of; by default the policy itself."""
        from stages.models.load import load_policy

        return load_policy(ref, **machine)

    def resolved(self, config: TrainConfig) -> TrainConfig:
        """The config with everything that is left open to the objective filled in; by default as it is."""
        return config

    def plan_key(self, ctx: Context) -> dict[str, Any]:
        """What identifies a run beside the stage's own settings: by default the objective's own, where it has some."""
        own = ctx.config.objective_settings()
        return {} if own is None else {short_name(ctx.config.objective): key_of(own)}

    @abstractmethod
    def train(self, session: Session) -> None:
        """Train the session's policy from where it stands, and end with `session.finish(...)`."""

    def quality_of(self, folder: RunFolder, rows: list[StepRow]) -> Quality:
        """What a finished run came to, where its folder says more than its steps do; by default `quality` of these."""
        return self.quality(rows)

    def quality(self, rows: list[StepRow]) -> Quality:
        """What a finished run came to, from its steps: by default its loss, first and last, and gradient norm.

        A failure (exit 3) where no step learned from anything.
        """
        return supervised_quality(rows)

    @property
    def needs_rollouts(self) -> bool:
        """Whether prompts alone are not enough: each turn of a recipe's phase samples and scores before it trains."""
        return PROMPTS not in self.reads


def supervised_quality(rows: list[StepRow]) -> Quality:
    """Steps, loss first and last, gradient norm, and the share of pairs in order where there are pairs.

    A failure where no step learned from anything: no step at all, or none with an example.
    """
    learned = [row for row in rows if row.groups]
    if not learned:
        return Quality(
            line=f"{len(rows)} steps",
            numbers={"steps": len(rows)},
            failure="nothing was learned: no step had an example",
            hint="cosmo show --rejected on this run says why",
        )
    first, last = learned[0], learned[-1]
    numbers: dict[str, Any] = {"steps": len(rows), "first_loss": first.loss, "last_loss": last.loss}
    parts = [f"{len(rows)} steps", f"loss {first.loss:.3g} -> {last.loss:.3g}"]
    norms = [row.grad_norm for row in learned if row.grad_norm is not None]
    if norms:
        numbers["grad_norm"] = fmean(norms)
        parts.append(f"gradient norm {numbers['grad_norm']:.3g}")
    if last.pair_accuracy is not None:
        numbers["pair_accuracy"] = last.pair_accuracy
        parts.append(f"{last.pair_accuracy:.0%} of the last step's pairs in order")
    return Quality(line=", ".join(parts), numbers=numbers)
