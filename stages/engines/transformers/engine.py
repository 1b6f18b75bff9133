"""The engine behind `transformers.py`: batched decoding on the public model and cache interface.

A prompt is prefilled once, and its cache shared by its samples; prompts of like length are decoded together, left
padded; rows that ended leave the batch. Which prompts meet in a batch changes floats by about 1e-6, so a token that
won by less than `TIE` is drawn again from a forward of its own row alone: completions do not depend on batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from schemas.rollouts import Sampling
from schemas.values import Image, Message
from stages.engines.base import Sampled, SampleRequest
from stages.engines.seeds import sample_key
from stages.engines.transformers.batching import Share, batches, halves
from stages.engines.transformers.decoding import Expanded, Shared, decoding
from stages.engines.transformers.kv_cache import roomy_cache
from stages.engines.transformers.sampling import TIE, choose, distribution
from stages.models.families import next_positions, prompt_positions
from stages.models.load import Policy

if TYPE_CHECKING:
    from stages.models.processor import Encoded

# Dropping rows copies the cache: worth it once this share of the batch has ended.
_DROP_SHARE = 0.25


@dataclass(slots=True)
class _Row:
    """One sample being drawn."""

    request: SampleRequest
    index: int
    key: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: str | None = None


class TransformersEngine:
    """A loaded policy that samples."""

    def __init__(self, policy: Policy, label: str, batch_tokens: int) -> None:
        self.policy, self.label = policy, label
        self.banned_token_ids = policy.processor.banned_token_ids
        self.max_positions = policy.processor.max_positions
        self._budget = batch_tokens
        self._banned = torch.tensor(self.banned_token_ids, dtype=torch.long, device=policy.device)
        self._eos = frozenset(policy.processor.eos_token_ids)
        # Half precision differs between batches by more than can be drawn again in reasonable time, so there a
        # completion may depend on what it was batched with.
        self._tie = TIE if policy.model.dtype == torch.float32 else 0.0

    def encode(self, messages: list[Message], images: list[Image]) -> Encoded:
        """Render a prompt; BadSample when this model can't take it."""
        return self.policy.processor.encode(messages, images)

    def decode(self, token_ids: list[int]) -> str:
        """The words of a completion."""
        return self.policy.processor.decode(token_ids)

    def sample(self, requests: Iterable[SampleRequest], sampling: Sampling) -> Iterator[tuple[str, list[Sampled]]]:
        """Completions for every request, longest prompts first. See `Engine.sample`."""
        drawn: dict[int, dict[int, Sampled]] = {}
        was_training = self.policy.model.training
        self.policy.model.eval()
        try:
            waiting = list(batches(requests, sampling.max_new_tokens, self._budget))
            while waiting:
                for request, index, sampled in self._attempt(waiting.pop(0), sampling, waiting):
                    done = drawn.setdefault(id(request), {})
                    done[index] = sampled
                    if len(done) == request.n:
                        del drawn[id(request)]
                        yield request.id, [done[i] for i in range(request.n)]
        finally:
            self.policy.model.train(was_training)

    def _attempt(
        self, batch: list[Share], sampling: Sampling, waiting: list[list[Share]]
    ) -> list[tuple[SampleRequest, int, Sampled]]:
        """Draw a batch. Where that fails its halves go back in line; a sample that fails alone is an error."""
        try:
            with torch.no_grad():
                rows = self._draw(batch, sampling)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            self._budget = max(1, self._budget // 2)
            reason = "out of memory"
        except Exception as error:
            # Whatever a model's forward raises over one row must not cost the others.
            reason = " ".join([type(error).__name__, *str(error).splitlines()[:1]])
        else:
            return [(row.request, row.index, _result(row)) for row in rows]
        if smaller := halves(batch):
            waiting[:0] = smaller
            return []
        share = batch[0]
        return [(share.request, i, Sampled([], [], "error", reason)) for i in share.indices]

    def _draw(self, batch: list[Share], sampling: Sampling) -> list[_Row]:
        """Prefill the prompts once, then one token a step for all samples that have not ended."""
        model, device = self.policy.model, self.policy.device
        state, logits_RV, following_R = self._prefill(batch)
        rows = [_Row(s.request, i, sample_key(sampling.seed, s.request.id, i)) for s in batch for i in s.indices]
        live = rows
        for step in range(sampling.max_new_tokens):
            tokens = self._step(live, logits_RV, step, sampling)
            going = [at for at, row in enumerate(live) if row.ended is None]
            if not going or step + 1 == sampling.max_new_tokens:
                break
            if len(going) <= (1 - _DROP_SHARE) * len(live):
                keep = torch.tensor(going, device=device)
                state.keep(keep)
                following_R = following_R[keep]
                live, tokens = [live[at] for at in going], [tokens[at] for at in going]
            logits_RV = model(
                input_ids=torch.tensor(tokens, device=device)[:, None],
                position_ids=next_positions(model, following_R, step),
                use_cache=True,
                **state.following(),
            ).logits[:, -1]
        return rows

    def _prefill(self, batch: list[Share]) -> tuple[Expanded | Shared, torch.Tensor, torch.Tensor]:
        """Each prompt through the model once, whatever its number of samples (R rows in all).

        Returns what goes on from there, the logits of the first completion token (R, V), and the position that follows
        each prompt (R,).
        """
        inputs = self._inputs([(s.request, []) for s in batch])
        positions, following_B = prompt_positions(self.policy.model, inputs)
        cache = roomy_cache(self.policy.model.config)
        logits_BV = self.policy.model(
            **inputs, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits[:, -1]
        source_R = torch.tensor([at for at, s in enumerate(batch) for _ in s.indices], device=self.policy.device)
        state = decoding(self.policy.model, cache, inputs["attention_mask"], source_R)
        return state, logits_BV[source_R], following_B[source_R]

    def _step(self, live: list[_Row], logits_RV: torch.Tensor, step: int, sampling: Sampling) -> list[int]:
        """Draw the next token of every row; rows that have ended get one that is thrown away."""
        keys_R = torch.tensor([row.key for row in live], device=self.policy.device)
        drawn_from = distribution(logits_RV, sampling, self._banned)
        ids_R, margin_R = choose(drawn_from, keys_R, step, sampling.temperature)
        chosen_R = drawn_from.logprobs_RV.gather(-1, ids_R[:, None]).squeeze(-1)
        tokens, logprobs = ids_R.tolist(), chosen_R.tolist()
        close = (margin_R < self._tie).tolist()
        for at, row in enumerate(live):
            if row.ended is not None:
                continue
            if close[at]:
                tokens[at], logprobs[at] = self._alone(row, step, sampling)
            row.token_ids.append(tokens[at])
            row.logprobs.append(logprobs[at])
            if not math.isfinite(logprobs[at]):
                row.ended = "error"
            elif tokens[at] in self._eos:
                row.ended = "stop"
        return tokens

    def _alone(self, row: _Row, step: int, sampling: Sampling) -> tuple[int, float]:
        """The row's next token from its own forward: no padding, no cache, no company, so always the same floats."""
        inputs = self._inputs([(row.request, row.token_ids)])
        positions, _ = prompt_positions(self.policy.model, inputs)
        logits_1V = self.policy.model(**inputs, position_ids=positions, use_cache=False, logits_to_keep=1).logits[:, -1]
        drawn_from = distribution(logits_1V, sampling, self._banned)
        key_1 = torch.tensor([row.key], device=self.policy.device)
        token = int(choose(drawn_from, key_1, step, sampling.temperature)[0])
        return token, float(drawn_from.logprobs_RV[0, token])

    def _inputs(self, rows: list[tuple[SampleRequest, list[int]]]) -> dict[str, torch.Tensor]:
        """Prompts, each with the completion so far, as one left-padded batch on the model's device."""
        batch = self.policy.processor.batch(
            [[*request.token_ids, *completion] for request, completion in rows],
            [request.image_inputs for request, _ in rows],
        )
        return {name: tensor.to(self.policy.device) for name, tensor in batch.items()}


def _result(row: _Row) -> Sampled:
    if row.ended == "error":
        return Sampled([], [], "error", f"the model's output at token {len(row.token_ids)} is not finite")
    return Sampled(row.token_ids, row.logprobs, row.ended or "length")
