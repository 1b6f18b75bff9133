"""The engine behind `plugin.py`: which samples are drawn together, and what happens where a batch fails.

Prompts of like length are decoded together. Where memory runs out, or a model's forward raises, the batch is halved
until what fails is one completion alone; that one is an error and all others are whole. What was halved, and why, is
told (`trouble`): it costs speed, and may hide a fault of a whole family.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from schemas.rollouts import Sampling
from schemas.values import Image, Message
from stages.core.runs.halved import Halved
from stages.engines.base import Engine, SampledCompletion, SampleRequest, batch_failed
from stages.engines.transformers.batch_sampler import BatchSampler
from stages.engines.transformers.batching import Share, batches, halves
from stages.engines.transformers.kv_cache import check_cache, growing_cache, keeps_states
from stages.models.families import uncached_reason
from stages.models.load import Policy

if TYPE_CHECKING:
    from stages.models.processor import Encoded


class TransformersEngine(Engine):
    """A loaded policy that samples in this process."""

    def __init__(self, policy: Policy, label: str, batch_tokens: int) -> None:
        self.policy, self.label = policy, label
        self.processor = policy.processor
        self.banned_token_ids = policy.processor.banned_token_ids
        self.max_positions = policy.processor.max_positions
        self._budget = batch_tokens
        check_cache(policy.model)
        self._sampler = BatchSampler(policy)
        self._halved = Halved()
        # Padding would go into a state that holds all that was read.
        self._one_length = keeps_states(growing_cache(policy.model.config))

    def notice(self) -> str | None:
        """That prompts are copied to their completions, where the model's family makes that necessary."""
        reason = uncached_reason(self.policy.model)
        if reason and self._one_length:
            return (
                f"prompts of one length are sampled together: {self.policy.ref.name} keeps a state in place of a cache"
            )
        return reason and f"each completion is sampled with its own copy of the prompt: {reason}"

    def trouble(self) -> dict[str, Any] | None:
        """Batches that failed and were halved since this was last asked, by reason, and the seconds lost on them."""
        return self._halved.taken()

    def encode(self, messages: list[Message], images: list[Image]) -> Encoded:
        """Render a prompt; BadSample when this model can't take it."""
        return self.policy.processor.encode(messages, images)

    def decode(self, token_ids: list[int]) -> str:
        """The text of a completion, without control tokens."""
        return self.policy.processor.decode(token_ids)

    def sample(
        self, requests: Iterable[SampleRequest], sampling: Sampling
    ) -> Iterator[tuple[str, list[SampledCompletion]]]:
        """Completions for every request, longest prompts first. See `Engine.sample`."""
        drawn: dict[int, dict[int, SampledCompletion]] = {}
        was_training = self.policy.model.training
        self.policy.model.eval()
        try:
            waiting = list(batches(requests, sampling.max_new_tokens, self._budget, self._parts))
            self._halved.planned += len(waiting)
            while waiting:
                for request, index, completion in self._attempt(waiting.pop(0), sampling, waiting):
                    done = drawn.setdefault(id(request), {})
                    done[index] = completion
                    if len(done) == request.n:
                        del drawn[id(request)]
                        yield request.id, [done[i] for i in range(request.n)]
        finally:
            # The policy may be the one that is trained in this process: it goes back as it came.
            self.policy.model.train(was_training)

    def _parts(self, requests: list[SampleRequest]) -> list[list[SampleRequest]]:
        """The prompts that may be drawn together."""
        parts = [
            [requests[place] for place in places]
            for places in self.policy.processor.batches.apart([request.image_inputs for request in requests])
        ]
        if not self._one_length:
            return parts
        by_length: dict[tuple[int, int], list[SampleRequest]] = {}
        for number, part in enumerate(parts):
            for request in part:
                by_length.setdefault((number, len(request.token_ids)), []).append(request)
        return list(by_length.values())

    def _attempt(
        self, batch: list[Share], sampling: Sampling, waiting: list[list[Share]]
    ) -> list[tuple[SampleRequest, int, SampledCompletion]]:
        """Draw a batch. Where that fails its halves go back in line; a sample that fails alone is an error."""
        began = time.monotonic()
        try:
            with torch.no_grad():
                return self._sampler.draw(batch, sampling, self.heard)
        except Exception as error:
            # Whatever a model's forward raises over one row must not cost the others.
            reason = batch_failed(error)
            if isinstance(error, torch.OutOfMemoryError):
                self._budget = max(1, self._budget // 2)
        if smaller := halves(batch):
            self._halved.add(reason, time.monotonic() - began)
            waiting[:0] = smaller
            return []
        share = batch[0]
        return [(share.request, i, SampledCompletion.failed(reason)) for i in share.indices]
