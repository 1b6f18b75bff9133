"""One batch from its prompts to its completions, on the public model and cache interface.

A prompt is prefilled once, and its cache shared by its samples; prompts are left padded; rows that ended leave the
batch. Which prompts meet in a batch changes floats by about 1e-6, so a token that won by less than `TIE` is drawn again
from a forward of its own row alone: completions do not depend on batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from schemas.rollouts import FinishReason, Sampling
from stages.engines.base import SampledCompletion, SampleRequest
from stages.engines.seeds import sample_key
from stages.engines.transformers.batching import Share
from stages.engines.transformers.decoding import CopiedPrompts, SharedPrompts, decoding
from stages.engines.transformers.kv_cache import growing_cache
from stages.engines.transformers.sampling import TIE, choose, distribution
from stages.models.families import next_positions, prompt_positions
from stages.models.load import Policy

# Dropping rows copies the cache: worth it once this share of the batch has ended.
_DROP_SHARE = 0.25


@dataclass(slots=True)
class _Row:
    """One completion being drawn."""

    request: SampleRequest
    index: int
    key: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: FinishReason | None = None

    def completion(self) -> SampledCompletion:
        """What was drawn; a failed completion where the model gave a number that is none."""
        if self.ended is FinishReason.ERROR:
            return SampledCompletion.failed(f"the model's output at token {len(self.token_ids)} is not finite")
        return SampledCompletion(self.token_ids, self.logprobs, self.ended or FinishReason.LENGTH)


class BatchSampler:
    """Draws the completions of one batch at a time from a policy."""

    def __init__(self, policy: Policy) -> None:
        self._model, self._processor, self._device = policy.model, policy.processor, policy.device
        self._banned = torch.tensor(policy.processor.banned_token_ids, dtype=torch.long, device=policy.device)
        self._eos = frozenset(policy.processor.eos_token_ids)
        # Half precision differs between batches by more than can be drawn again in reasonable time, so there a
        # completion may depend on what it was batched with.
        self._tie = TIE if policy.model.dtype == torch.float32 else 0.0

    def draw(self, batch: list[Share], sampling: Sampling) -> list[tuple[SampleRequest, int, SampledCompletion]]:
        """Prefill the prompts once, then one token a step for all rows that have not ended."""
        prompts, logits_RV, following_R = self._prefill(batch)
        rows = [_Row(s.request, i, sample_key(sampling.seed, s.request.id, i)) for s in batch for i in s.indices]
        live = rows
        for step in range(sampling.max_new_tokens):
            tokens = self._step(live, logits_RV, step, sampling)
            going = [at for at, row in enumerate(live) if row.ended is None]
            if not going or step + 1 == sampling.max_new_tokens:
                break
            if len(going) <= (1 - _DROP_SHARE) * len(live):
                keep = torch.tensor(going, device=self._device)
                prompts.keep(keep)
                following_R = following_R[keep]
                live, tokens = [live[at] for at in going], [tokens[at] for at in going]
            logits_RV = self._model(
                input_ids=torch.tensor(tokens, device=self._device)[:, None],
                position_ids=next_positions(self._model, following_R, step),
                use_cache=True,
                **prompts.following(),
            ).logits[:, -1]
        return [(row.request, row.index, row.completion()) for row in rows]

    def _prefill(self, batch: list[Share]) -> tuple[CopiedPrompts | SharedPrompts, torch.Tensor, torch.Tensor]:
        """Each prompt through the model once, whatever its number of completions (R rows in all).

        Returns what goes on from there, the logits of the first completion token (R, V), and the position that follows
        each prompt (R,).
        """
        inputs = self._inputs([(s.request, []) for s in batch])
        positions, following_B = prompt_positions(self._model, inputs)
        cache = growing_cache(self._model.config)
        logits_BV = self._model(
            **inputs, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits[:, -1]
        source_R = torch.tensor([at for at, s in enumerate(batch) for _ in s.indices], device=self._device)
        prompts = decoding(self._model, cache, inputs["attention_mask"], source_R)
        return prompts, logits_BV[source_R], following_B[source_R]

    def _step(self, live: list[_Row], logits_RV: torch.Tensor, step: int, sampling: Sampling) -> list[int]:
        """Draw the next token of every row; rows that have ended get one that is thrown away."""
        keys_R = torch.tensor([row.key for row in live], device=self._device)
        drawn_from = distribution(logits_RV, sampling, self._banned)
        ids_R, margin_R = choose(drawn_from, keys_R, step, sampling.temperature)
        chosen_R = drawn_from.logprobs_RV.gather(-1, ids_R[:, None]).squeeze(-1)
        tokens, logprobs = ids_R.tolist(), chosen_R.tolist()
        close = (margin_R < self._tie).tolist()
        for at, row in enumerate(live):
            if row.ended is not None:
                continue
            if close[at]:
                tokens[at], logprobs[at] = self._redraw_alone(row, step, sampling)
            row.token_ids.append(tokens[at])
            row.logprobs.append(logprobs[at])
            if not math.isfinite(logprobs[at]):
                row.ended = FinishReason.ERROR
            elif tokens[at] in self._eos:
                row.ended = FinishReason.STOP
        return tokens

    def _redraw_alone(self, row: _Row, step: int, sampling: Sampling) -> tuple[int, float]:
        """The row's next token from its own forward: no padding, no cache, no company, so always the same floats."""
        inputs = self._inputs([(row.request, row.token_ids)])
        positions, _ = prompt_positions(self._model, inputs)
        logits_1V = self._model(**inputs, position_ids=positions, use_cache=False, logits_to_keep=1).logits[:, -1]
        drawn_from = distribution(logits_1V, sampling, self._banned)
        key_1 = torch.tensor([row.key], device=self._device)
        token = int(choose(drawn_from, key_1, step, sampling.temperature)[0])
        return token, float(drawn_from.logprobs_RV[0, token])

    def _inputs(self, rows: list[tuple[SampleRequest, list[int]]]) -> dict[str, torch.Tensor]:
        """Prompts, each with the completion so far, as one left-padded batch on the model's device."""
        batch = self._processor.batch(
            [[*request.token_ids, *completion] for request, completion in rows],
            [request.image_inputs for request, _ in rows],
        )
        return {name: tensor.to(self._device) for name, tensor in batch.items()}
