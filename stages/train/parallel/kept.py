"""What a rank keeps in the host's memory from one run to the next: what it trained last, so that it isn't read again.

Only what lies there at the end of training anyway: on a CPU, or the parts that DeepSpeed's layouts come back as. What
lies on a GPU is in the way of whoever samples next, and is read anew.
"""

from __future__ import annotations

from stages.core.resources import Kind, Resources
from stages.models.load import Policy
from stages.models.policy_ref import PolicyRef, folder_id
from stages.train.checkpoints import Position, TrainerState, leave_as_loaded
from stages.train.config import TrainConfig, autocasts
from stages.train.parallel import ranks
from stages.train.session import Session

KEPT: Kind[tuple[Policy, TrainerState]] = Kind("kept_by_rank")
"""The policy that this rank trained last, or its part of it, with the optimizer's state, by `_key`."""


def keep(session: Session, position: Position) -> None:
    """Keep what was trained, under the id of what rank 0 has saved. A meeting of all ranks."""
    # On disk adapters are in the weights; on the other ranks they are not.
    if session.adapters is not None:
        return
    policy, writer = session.policy, session.writer
    saved = folder_id(writer.artifact("policy"), writer.sha256) if ranks.rank() == 0 else ""
    new_id = ranks.broadcast(saved)
    if any(p.device.type != "cpu" for p in policy.model.parameters()):
        return
    moments = session.layout.moments(policy.model, session.optimizer)
    leave_as_loaded(policy.model)
    session.ctx.resources.put(KEPT, _key(new_id, session.config), (policy, TrainerState(position, moments)))


def taken(resources: Resources, ref: PolicyRef, config: TrainConfig) -> tuple[Policy, TrainerState] | None:
    """What all ranks have kept of this policy, taken out since it is about to change; None where one has not."""
    kept = resources.peek(KEPT, _key(ref.id, config))
    resources.drop(KEPT)
    return kept if all(ranks.all_gather(kept is not None)) else None


def _key(policy_id: str, config: TrainConfig) -> str:
    """What has to be the same for a model to be what loading would give."""
    how = (config.parallel, config.dtype, config.reduce_dtype, config.device, autocasts(config, "cpu"))
    return " ".join(map(str, (policy_id, *how)))
