"""The row of an RL step: sums over its tokens, micro-batch by micro-batch, and what its groups say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from schemas.steps import StepRow
from stages.train.losses.base import LossInputs, masked_sum
from stages.train.rl.batches import MicroBatch, Update
from stages.train.rl.logprobs import TokenLogprobs
from stages.train.rl.metrics import rollout_numbers
from stages.train.rl.scoring import padded


@dataclass(slots=True)
class TokenSums:
    """Sums over the tokens of a step, added up micro-batch by micro-batch."""

    tokens: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, tokens: float, sums: dict[str, float]) -> None:
        """Count a micro-batch, or another rank's part of the step, in."""
        self.tokens += tokens
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def add_micro_batch(
        self,
        micro: MicroBatch,
        scores: TokenLogprobs,
        inputs: LossInputs,
        stats: dict[str, Tensor],
        old_source: str,
    ) -> None:
        """Count a micro-batch in; where the old log-probs are recomputed, also how far the sampler's are from them.

        Completions made elsewhere have no sampler of ours, and there is no such gap.
        """
        sums = {name: value.item() for name, value in stats.items()}
        sums["entropy"] = masked_sum(scores.entropy_NT, inputs.mask_NT).item()
        if old_source == "recompute" and all(c.scored.logprobs for c in micro.completions):
            old_NT = inputs.old_logprobs_NT
            sampler_NT = padded([torch.tensor(list(c.scored.logprobs)) for c in micro.completions], old_NT.device)
            sums["sampler_gap"] = masked_sum((old_NT - sampler_NT).abs(), inputs.mask_NT).item()
        self.add(inputs.mask_NT.sum().item(), sums)

    def mean(self, name: str) -> float | None:
        """Mean over the tokens; None where it was not measured."""
        return self.sums[name] / self.tokens if name in self.sums and self.tokens else None


def added_up(parts: Iterable[TokenSums]) -> TokenSums:
    """The sums of several ranks as one."""
    whole = TokenSums()
    for part in parts:
        whole.add(part.tokens, part.sums)
    return whole


def step_row(
    *,
    step: int,
    rollout: int,
    number: int,
    update: Update,
    sums: TokenSums,
    logs: dict[str, float],
    cost_weight: float | None,
    seconds: float,
) -> StepRow:
    """The row of lineage step `step`, the `number`th update of its rollout (from 0). `logs` are transformers'."""
    return StepRow(
        objective="rl",
        step=step,
        rollout=rollout,
        update=number,
        loss=logs["loss"],
        # DeepSpeed has none of a step that changes nothing.
        grad_norm=logs.get("grad_norm", 0.0) if update.live else 0.0,
        learning_rate=logs["learning_rate"],
        tokens=int(sums.tokens),
        entropy=sums.mean("entropy"),
        ratio_mean=sums.mean("ratio"),
        clip_fraction=sums.mean("clipped"),
        drift=sums.mean("drift"),
        ref_kl=sums.mean("ref_kl"),
        sampler_gap=sums.mean("sampler_gap"),
        cost_weight=cost_weight,
        seconds=seconds,
        **rollout_numbers(update.groups),
    )
