"""log pi_old of a rollout's completions: the ratio's denominator, fixed before the first update moves the policy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stages.train.parallel import ranks
from stages.train.rl.batches import MicroBatch, TrainCompletion, Update
from stages.train.rl.logprobs import TokenLogprobs
from stages.train.rl.rollout import Rollout

Cut = Callable[[Update], list[MicroBatch]]


def fill_old_logprobs(rollout: Rollout, source: str, cut: Cut, score: Callable[[MicroBatch], TokenLogprobs]) -> None:
    """Give the rollout's completions their old log-probs: `stored` by the sampler, or recomputed by `score`.

    The first update's are not recomputed: they are what its own forward gives (`scoring.loss_inputs`), so that its
    ratio is 1 to the bit and one forward pass is saved.
    """
    if source == "stored":
        for completion in rollout.completions():
            completion.old_logprobs = torch.tensor(list(completion.scored.logprobs))
        return
    with torch.no_grad():
        for micro in (m for update in rollout.updates[1:] for m in cut(update)):
            logprobs_NT = score(micro).logprobs_NT.cpu()
            for completion, logprobs_T in zip(micro.completions, logprobs_NT, strict=True):
                # A copy: a slice would keep the micro-batch's whole padded tensor alive until the rollout's end.
                completion.old_logprobs = logprobs_T[: completion.length].clone()


def old_logprobs_tensor(rollout: Rollout, device: torch.device) -> Tensor:
    """All the rollout's old log-probs end to end, for a checkpoint. A meeting of all ranks."""
    # Each completion's are with the rank that has it; the others add zeros.
    values = [torch.zeros(c.length) if c.old_logprobs is None else c.old_logprobs for c in rollout.completions()]
    return ranks.all_reduce(torch.cat(values) if values else torch.zeros(0), device)


def restore_old_logprobs(rollout: Rollout, flat: Tensor, own: list[TrainCompletion]) -> None:
    """Back from a checkpoint to this rank's own completions.

    Computed again they would be those of the policy that has moved since.
    """
    # The other ranks' are None here, as before: the next checkpoint adds up what each rank has.
    completions, kept = list(rollout.completions()), {id(c) for c in own}
    for completion, logprobs_T in zip(completions, flat.split([c.length for c in completions]), strict=True):
        completion.old_logprobs = logprobs_T if id(completion) in kept else None
