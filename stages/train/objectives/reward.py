"""A Bradley-Terry reward model from pairs of completions of scored groups, through TRL's RewardTrainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.train.objectives.base import Objective
from stages.train.supervised.pair_options import PairOptions

if TYPE_CHECKING:
    from stages.models.load import Policy
    from stages.models.policy_ref import PolicyRef
    from stages.train.config import TrainConfig
    from stages.train.session import Session


class Reward(Objective):
    """Give the completion with the higher reward the higher score."""

    called = "a reward model"
    title = "Reward model training"
    reward_model = True
    phase = False
    # TRL's RewardTrainer averages over a rank's pairs: unequal shares would weigh them differently.
    several_ranks = False
    settings = PairOptions

    def load(self, ref: PolicyRef, config: TrainConfig, **machine: Any) -> Policy:
        """A text-only model with a head for one number."""
        from stages.models.load import load_reward_model

        return load_reward_model(ref, **machine)

    def train(self, session: Session) -> None:
        """Learn to order the pairs of the groups."""
        from stages.train.supervised.reward_trainer import train_reward

        train_reward(session)


PLUGIN = Reward()
