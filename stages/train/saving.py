"""What a finished run leaves on disk, in memory and for the next rollout, as its model lies on the ranks."""

from __future__ import annotations

from stages.train.checkpoints import Trained, save_policy_in_parts, save_run, save_state_in_parts
from stages.train.parallel import ranks
from stages.train.parallel.kept import keep_and_hand_over


def save(trained: Trained) -> None:
    """Write policy and trainer state, keep both, and hand the policy over where somebody waits for it.

    A meeting of all ranks. NoRoomError where the disk is full: nothing of the run is committed then.
    """
    if not trained.layout.sharded:
        if ranks.rank() == 0:
            save_run(trained)
        if ranks.launched():
            keep_and_hand_over(trained, None)
        return
    # Before adapters are merged, which are what has moments then.
    moments = trained.layout.moments(trained.policy.model, trained.optimizer)
    moments |= save_policy_in_parts(trained)
    keep_and_hand_over(trained, moments)
    # Last: nobody samples from it.
    save_state_in_parts(trained, moments)
