"""One batch from its prompts to its completions, on the public model and cache interface.

A prompt is prefilled once, and its cache shared by its samples; prompts are left padded; rows that ended leave the
batch. Which prompts meet in a batch changes floats by about 1e-6, so a token that won by less than `TIE` is drawn again
from a forward of its own row alone: completions do not depend on batches.

The ids that a completion is to begin with go through the model one a step, as if they had been drawn: what follows has
the very floats that it has in the whole completion, whatever the model's cache and positions are like.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from schemas.rollouts import FinishReason, Sampling
from stages.engines.base import SampledCompletion, SampleRequest
from stages.engines.seeds import sample_key
from stages.engines.stop_strings import StopStrings
from stages.engines.transformers.batching import Share
from stages.engines.transformers.decoding import CopiedPrompts, SharedPrompts, decoding
from stages.engines.transformers.kv_cache import cache_keyword, growing_cache
from stages.engines.transformers.sampling import TIE, choose, distribution
from stages.models.families import next_positions, prompt_positions
from stages.models.forward_inputs import forward_names
from stages.models.load import Policy

# Dropping rows copies the cache: worth it once this share of the batch has ended.
_DROP_SHARE = 0.25


@dataclass(slots=True)
class _Row:
    """One completion being drawn."""

    request: SampleRequest
    index: int
    key: int
    prefix: list[int]
    end: int
    """How many ids it has at most, the prefix with them."""
    token_ids: list[int] = field(default_factory=list)
    """All so far: the prefix, or as much of it as went through the model, and what was drawn."""
    logprobs: list[float] = field(default_factory=list)
    """Of what was drawn."""
    ended: FinishReason | None = None
    stopped_by: str | None = None

    def completion(self) -> SampledCompletion:
        """What was drawn; a failed completion where the model gave a number that is none."""
        if self.ended is FinishReason.ERROR:
            return SampledCompletion.failed(f"the model's output at token {len(self.token_ids)} is not finite")
        drawn = self.token_ids[len(self.prefix) :]
        return SampledCompletion(drawn, self.logprobs, self.ended or FinishReason.LENGTH, stopped_by=self.stopped_by)

    def forced(self, step: int) -> bool:
        """Whether its id number `step` is given, and not drawn."""
        return step < len(self.prefix)


class BatchSampler:
    """Draws the completions of one batch at a time from a policy."""

    def __init__(self, policy: Policy) -> None:
        self._model, self._processor, self._device = policy.model, policy.processor, policy.device
        self._banned = torch.tensor(policy.processor.banned_token_ids, dtype=torch.long, device=policy.device)
        self._eos = frozenset(policy.processor.eos_token_ids)
        # Half precision differs between batches by more than can be drawn again in reasonable time, so there a
        # completion may depend on what it was batched with.
        self._tie = TIE if policy.model.dtype == torch.float32 else 0.0

    def draw(
        self, batch: list[Share], sampling: Sampling, heard: Callable[[int, int], None]
    ) -> list[tuple[SampleRequest, int, SampledCompletion]]:
        """Prefill the prompts once, then one token a step for all rows that have not ended; see `Engine.heard`."""
        prompts, logits_RV, following_R, axes = self._prefill(batch)
        live = rows = [_row(s.request, i, sampling) for s in batch for i in s.indices]
        stops = StopStrings(sampling.stop, self._processor.decode)
        steps = max(row.end for row in rows)
        for step in range(steps):
            before = sum(row.ended is None for row in live)
            tokens = self._step(live, logits_RV, step, sampling, stops)
            going = [at for at, row in enumerate(live) if row.ended is None]
            heard(before - len(going), before)
            if not going or step + 1 == steps:
                break
            if len(going) <= (1 - _DROP_SHARE) * len(live):
                keep = torch.tensor(going, device=self._device)
                prompts.keep(keep)
                following_R = following_R[keep]
                live, tokens = [live[at] for at in going], [tokens[at] for at in going]
            inputs = {"input_ids": torch.tensor(tokens, device=self._device)[:, None], **prompts.following()}
            positions = next_positions(self._model, following_R, step, axes)
            logits_RV = last_logits(self._model, inputs, positions, use_cache=True)
        return [(row.request, row.index, row.completion()) for row in rows]

    def _prefill(
        self, batch: list[Share]
    ) -> tuple[CopiedPrompts | SharedPrompts, torch.Tensor, torch.Tensor, tuple[int, ...]]:
        """Each prompt through the model once, whatever its number of completions (R rows in all).

        Returns what goes on from there, the logits of the first completion token (R, V), the position that follows
        each prompt (R,), and the axes that positions have before (B, L).
        """
        inputs = self._inputs([(s.request, []) for s in batch])
        positions, following_B = prompt_positions(self._model, inputs)
        cache = growing_cache(self._model.config)
        keyword = cache_keyword(self._model)
        logits_BV = last_logits(self._model, {**inputs, keyword: cache}, positions, use_cache=True)
        source_R = torch.tensor([at for at, s in enumerate(batch) for _ in s.indices], device=self._device)
        along = self._processor.batches.continued(inputs)
        prompts = decoding(self._model, cache, inputs["attention_mask"], source_R, along)
        return prompts, logits_BV[source_R], following_B[source_R], tuple(positions.shape[:-2])

    def _step(
        self, live: list[_Row], logits_RV: torch.Tensor, step: int, sampling: Sampling, stops: StopStrings
    ) -> list[int]:
        """Draw the next token of every row, or take the given one; rows that have ended get one that is thrown away."""
        if all(row.forced(step) for row in live):
            return [self._force(row, step) for row in live]
        keys_R = torch.tensor([row.key for row in live], device=self._device)
        drawn_from = distribution(logits_RV, sampling, self._banned)
        ids_R, margin_R = choose(drawn_from, keys_R, step, sampling.temperature)
        chosen_R = drawn_from.logprobs_RV.gather(-1, ids_R[:, None]).squeeze(-1)
        tokens, logprobs = ids_R.tolist(), chosen_R.tolist()
        close = (margin_R < self._tie).tolist()
        for at, row in enumerate(live):
            if row.forced(step):
                tokens[at] = self._force(row, step)
                continue
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
            elif stops.texts and (text := stops.ended_by(row.token_ids)) is not None:
                row.ended, row.stopped_by = FinishReason.STOP, text
            elif step + 1 >= row.end:
                row.ended = FinishReason.LENGTH
        return tokens

    def _force(self, row: _Row, step: int) -> int:
        """The given token of a row: it is the row's next, and was drawn before or came from elsewhere."""
        row.token_ids.append(row.prefix[step])
        if step + 1 == len(row.prefix):
            if row.prefix[-1] in self._eos:
                row.ended = FinishReason.STOP
            elif step + 1 >= row.end:
                row.ended = FinishReason.LENGTH
        return row.prefix[step]

    def _redraw_alone(self, row: _Row, step: int, sampling: Sampling) -> tuple[int, float]:
        """The row's next token from its own forward: no padding, no cache, no company, so always the same floats."""
        inputs = self._inputs([(row.request, row.token_ids)])
        positions, _ = prompt_positions(self._model, inputs)
        logits_1V = last_logits(self._model, inputs, positions, use_cache=False)
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


def last_logits(model: Any, inputs: dict[str, Any], positions: torch.Tensor, *, use_cache: bool) -> torch.Tensor:
    """Logits (B, V) after the last token of each row: the one way in which prompts, steps and redraws ask a model."""
    names = forward_names(model)
    asked = {"position_ids": positions, "logits_to_keep": 1}
    # A forward without the name would hand it down, or swallow it and give all positions.
    taken = {name: value for name, value in asked.items() if names is None or name in names}
    logits_BV: torch.Tensor = model(**inputs, **taken, use_cache=use_cache).logits[:, -1]
    return logits_BV


def _row(request: SampleRequest, index: int, sampling: Sampling) -> _Row:
    """A completion before its first step."""
    prefix, most = request.prefix(index), request.limit(index, sampling.max_new_tokens)
    key = sample_key(sampling.seed, *request.noise_of(index))
    ended = None if prefix or most else FinishReason.LENGTH
    return _Row(request, index, key, prefix, len(prefix) + most, ended=ended)
