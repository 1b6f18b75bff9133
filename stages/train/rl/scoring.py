"""Micro-batches through a model: log-probs under the policy or the reference, with each prompt's images made once."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from schemas.scored import ScoredGroup
from stages.core.errors import BadSample, InputError
from stages.models.attention.shared_inputs import TokenGroup
from stages.models.load import Policy
from stages.train.losses.base import LossInputs
from stages.train.rl.batches import MicroBatch, TrainCompletion
from stages.train.rl.logprobs import TokenLogprobs, completion_logprobs
from stages.train.rl.vision_cache import FrozenTower, ImageInputs


class MicroBatchScorer:
    """Log-probs of the micro-batches of one rollout."""

    def __init__(self, policy: Policy, reference: Policy | None, banned: list[int], share: bool) -> None:
        self._policy, self._reference, self._banned = policy, reference, banned
        self.share = share
        """Each prompt is computed once for its completions."""
        self._images = ImageInputs(policy.processor)
        models = [p.model for p in (policy, reference) if p is not None]
        # Sharded weights are gathered by all ranks at once: one may not skip a tower that another runs.
        cached = share and not torch.distributed.is_initialized()
        self._towers = {id(m): FrozenTower(m) for m in models if cached and FrozenTower.fits(m)}

    def policy(self, micro: MicroBatch, forward: Any) -> TokenLogprobs:
        """Under the policy being trained; `forward` is its model as the trainer has wrapped it."""
        return self._score(self._policy.model, micro, forward)

    def reference(self, micro: MicroBatch) -> Tensor | None:
        """Log-probs (N, T) under the reference, without a gradient; None where there is none."""
        if self._reference is None:
            return None
        with torch.no_grad():
            return self._score(self._reference.model, micro, None).logprobs_NT

    def _score(self, model: Any, micro: MicroBatch, forward: Any) -> TokenLogprobs:
        groups = [
            TokenGroup(
                list(group.row.prompt_token_ids),
                self._image_inputs(group.row),
                [list(c.scored.token_ids) for c in completions],
                [c.scored.sampling.temperature for c in completions],
            )
            for group, completions in micro.parts
        ]
        images = [(g.row.id, t.image_inputs) for (g, _), t in zip(micro.parts, groups, strict=True) if t.image_inputs]
        tower = self._towers.get(id(model))
        with tower.cached(images) if tower and images else nullcontext():
            return completion_logprobs(
                model, self._policy.processor, groups, self._banned, share=self.share, forward=forward
            )

    def _image_inputs(self, row: ScoredGroup) -> dict[str, Tensor]:
        try:
            return self._images.of(row)
        except BadSample as error:
            raise InputError(
                f"prompt {row.id} can't be fed to {self._policy.ref.spec}: {error}",
                "train the policy that sampled these groups, or one with the same tokenizer and processor",
            ) from None


def loss_inputs(micro: MicroBatch, scores: TokenLogprobs, ref_logprobs_NT: Tensor | None) -> LossInputs:
    """What the loss is given of a micro-batch; completions that have no old log-probs yet get their present ones.

    Those are the ones of a rollout's first update: it is on policy, and its ratio is exactly 1.
    """
    completions, device = micro.completions, scores.mask_NT.device
    for completion, logprobs_T in zip(completions, scores.logprobs_NT.detach(), strict=True):
        if completion.old_logprobs is None:
            # Off the GPU: a rollout's stay until its last update.
            completion.old_logprobs = logprobs_T[: completion.length].cpu()
    mask_NT = scores.mask_NT
    if any(c.weight == 0.0 for c in completions):
        # Fillers, which a rank without a group of its own computes: no mean may count their tokens.
        mask_NT = mask_NT * torch.tensor([[float(c.weight != 0.0)] for c in completions], device=device)
    inputs = LossInputs(
        scores.logprobs_NT,
        padded([c.old_logprobs for c in completions], device),
        torch.tensor([c.advantage for c in completions], device=device).unsqueeze(1),
        mask_NT,
        torch.tensor([c.weight for c in completions], device=device),
        ref_logprobs_NT,
    )
    return inputs if all(c.scored.generated is None for c in completions) else generated_only(inputs, completions)


def generated_only(inputs: LossInputs, completions: list[TrainCompletion]) -> LossInputs:
    """The same without the tokens that the policy did not generate: no mean counts them, and no gradient comes of them.

    Their log-probs are 0, not only masked: one that the sampler may not give has any value, and times 0 it may be NaN.
    """
    device = inputs.mask_NT.device
    own_NT = padded([torch.tensor(c.scored.generated or [True] * c.length) for c in completions], device)

    def kept(values_NT: Tensor) -> Tensor:
        return values_NT.masked_fill(~own_NT, 0.0)

    return replace(
        inputs,
        logprobs_NT=kept(inputs.logprobs_NT),
        old_logprobs_NT=kept(inputs.old_logprobs_NT),
        mask_NT=kept(inputs.mask_NT),
        ref_logprobs_NT=None if inputs.ref_logprobs_NT is None else kept(inputs.ref_logprobs_NT),
    )


def padded(values: list[Tensor | None], device: torch.device) -> Tensor:
    """Values of N completions (T_n,) as one tensor (N, T), 0 in padding."""
    return pad_sequence([v for v in values if v is not None], batch_first=True).to(device)
