"""What a rank keeps in the host's memory from one run to the next: what it trained last, so that it isn't read again.

Only what lies there at the end of training anyway: on a CPU, or the parts that DeepSpeed's layouts come back as. What
lies on a GPU is in the way of whoever samples next, and is read anew.
"""

from __future__ import annotations

import torch

from stages.core.resources import Kind, Resources
from stages.models.load import Policy
from stages.models.policy_ref import PolicyRef, folder_id
from stages.models.warm import HAND_OVER
from stages.train.checkpoints import Trained, TrainerState, hand_over, leave_as_loaded
from stages.train.config import TrainConfig, autocasts
from stages.train.parallel import ranks
from stages.train.parallel.layout import Tensors

KEPT: Kind[tuple[Policy, TrainerState]] = Kind("kept_by_rank")
"""The policy that this rank trained last, or its part of it, with the optimizer's state, by `_key`."""


def keep_and_hand_over(trained: Trained, moments: Tensors | None) -> None:
    """Keep what was trained, under the id of what rank 0 has saved, and let others sample from that.

    Neither where it is in the way of a sampler. A meeting of all ranks. `moments` are the optimizer's where None.
    """
    model, writer, resources = trained.policy.model, trained.writer, trained.ctx.resources
    saved = folder_id(writer.artifact("policy"), writer.sha256) if ranks.rank() == 0 else ""
    new_id = ranks.broadcast(saved)
    if any(p.device.type != "cpu" for p in model.parameters()):
        return
    # On disk adapters are in the weights; whole ones are so on rank 0 alone.
    if trained.adapters is None:
        state = trained.layout.moments(model, trained.optimizer) if moments is None else moments
        leave_as_loaded(model)
        kept = (trained.policy, TrainerState(trained.position, state))
        resources.put(KEPT, _key(new_id, trained.config), kept)
    if resources.peek(HAND_OVER, "") is not None:
        rest(resources)
        ranks.barrier()
        if ranks.rank() == 0:
            hand_over(trained.ctx, writer, new_id)


def taken(resources: Resources, ref: PolicyRef, config: TrainConfig) -> tuple[Policy, TrainerState] | None:
    """What all ranks have kept of this policy, taken out since it is about to change; None where one has not."""
    kept = resources.peek(KEPT, _key(ref.id, config))
    resources.drop(KEPT)
    return kept if all(ranks.all_gather(kept is not None)) else None


def rest(resources: Resources) -> None:
    """Give an accelerator's memory back, which samplers are about to need."""
    if torch.accelerator.is_available():
        resources.drop_devices()
        torch.accelerator.empty_cache()


def _key(policy_id: str, config: TrainConfig) -> str:
    """What has to be the same for a model to be what loading would give."""
    how = (config.parallel, config.dtype, config.reduce_dtype, config.device, autocasts(config, "cpu"))
    return " ".join(map(str, (policy_id, *how)))
