"""The engine behind `plugin.py`: prompts as ids, images for vLLM to process, one request a sample."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from schemas.rollouts import FinishReason, Sampling
from schemas.values import Image, Message
from stages.core.errors import CosmoError, UnavailableError, UsageError, what_failed
from stages.engines.base import Encoding, Engine, SampledCompletion, SampleRequest
from stages.engines.seeds import sampler_seed
from stages.engines.stop_strings import StopStrings
from stages.engines.vllm.session import VllmSession
from stages.models.images import decode_image

if TYPE_CHECKING:
    from stages.models.processor import PromptProcessor

# Below the first vLLM samples at the first instead, and says so in its log alone; above the second it refuses.
_COLDEST, _HOTTEST = 0.01, 2.0


class VllmEngine(Engine):
    """A policy in a running vLLM."""

    def __init__(self, session: VllmSession, processor: PromptProcessor, label: str) -> None:
        self.label = label
        self.banned_token_ids = processor.banned_token_ids
        self.max_positions = session.max_positions
        self._session, self._processor, self.processor = session, processor, processor

    def encode(self, messages: list[Message], images: list[Image]) -> Encoding:
        """The ids; BadSample when this model can't take the prompt. vLLM processes the images again itself."""
        encoded = self._processor.encode(messages, images)
        encoded.image_inputs = {}
        return encoded

    def decode(self, token_ids: list[int]) -> str:
        """The words of a completion."""
        return self._processor.decode(token_ids)

    def sleep(self) -> None:
        """Weights go to the host's memory, and the cache of keys and values is let go."""
        self._session.sleep()

    def wake(self) -> None:
        """Weights come back to the GPU."""
        self._session.wake()

    def stop(self) -> None:
        """vLLM ends; opening the engine again starts another."""
        self._session.close()

    def sample(
        self, requests: Iterable[SampleRequest], sampling: Sampling
    ) -> Iterator[tuple[str, list[SampledCompletion]]]:
        """Completions for every request. See `Engine.sample`.

        UnavailableError where vLLM reads no prompt as the policy's own processor does.
        """
        if sampling.temperature and not _COLDEST <= sampling.temperature <= _HOTTEST:
            raise UsageError(
                f"temperature = {sampling.temperature}: vLLM samples at {_COLDEST} to {_HOTTEST}, and at 0",
                "use --engine transformers for others",
            )
        waiting, read = [list(requests)], 0
        mismatch = ""
        while waiting:
            batch = waiting.pop(0)
            try:
                answers = self._generate(batch, sampling)
            except CosmoError:
                raise
            except Exception as error:
                # One prompt that vLLM refuses must not cost the others.
                if len(batch) > 1:
                    waiting[:0] = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
                else:
                    yield batch[0].id, _failed(batch[0], what_failed(error))
                continue
            for request, outputs in zip(batch, answers, strict=True):
                if (other := _other_prompt(request, outputs)) is not None:
                    mismatch = other
                    yield request.id, _failed(request, mismatch)
                    continue
                read += 1
                yield request.id, [self._completion(request, i, outputs, sampling) for i in range(request.n)]
        if mismatch and not read:
            raise UnavailableError(f"{mismatch}, for every prompt", "this model family needs --engine transformers")

    def _generate(self, batch: list[SampleRequest], sampling: Sampling) -> list[dict[int, Any]]:
        """vLLM's outputs by request and sample; one for all samples that are alike, none for those that have ended."""
        prompts: list[dict[str, Any]] = []
        params, asked = [], []
        for request in batch:
            prompt = vllm_prompt(self._processor, request)
            indices = [0] if request.alike(sampling) else list(range(request.n))
            asked.append([i for i in indices if self._finished(request, i, sampling) is None])
            # A request a sample, and no `n`: of n in one request the k-th would have seed + k, not its place's own.
            for index in asked[-1]:
                prefix = request.prefix(index)
                prompts.append({**prompt, "prompt_token_ids": prompt["prompt_token_ids"] + prefix})
                seed = sampler_seed(sampling.seed, *request.noise_of(index), len(prefix))
                params.append(self._params(sampling, seed, request.limit(index, sampling.max_new_tokens)))
        outputs = iter(self._session.generate(prompts, params) if prompts else [])
        return [{index: next(outputs) for index in indices} for indices in asked]

    def _completion(
        self, request: SampleRequest, index: int, outputs: dict[int, Any], sampling: Sampling
    ) -> SampledCompletion:
        """Sample `index` of a request, up to the first of the stop texts."""
        if (ended := self._finished(request, index, sampling)) is not None:
            return ended
        output = outputs[0 if request.alike(sampling) else index].outputs[0]
        # vLLM looks for the texts in what it sampled itself, and not across the end of a prefix.
        found = StopStrings(sampling.stop, self._processor.decode).cut(request.prefix(index), _completion(output))
        if found.stopped_by is None and isinstance(output.stop_reason, str):
            found.stopped_by = output.stop_reason
        return found

    def _finished(self, request: SampleRequest, index: int, sampling: Sampling) -> SampledCompletion | None:
        return request.finished(index, sampling.max_new_tokens, self._processor.eos_token_ids)

    def _params(self, sampling: Sampling, seed: int, most: int) -> Any:
        from vllm import SamplingParams

        # It can look for texts only in what it decodes.
        stop = {"stop": sampling.stop, "include_stop_str_in_output": True} if sampling.stop else {}
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=most,
            seed=seed if sampling.temperature > 0 else None,
            stop_token_ids=self._processor.eos_token_ids,
            # Of the token that was drawn, and of no others; None would be no log-prob at all.
            logprobs=0,
            # Else an object a token, all of which the garbage collector walks.
            flat_logprobs=True,
            detokenize=bool(sampling.stop),
            **stop,
        )


def vllm_prompt(processor: PromptProcessor, request: SampleRequest) -> dict[str, Any]:
    """A prompt as vLLM takes it: placeholders as the template writes them, images for vLLM to process."""
    ids = processor.renderer_ids(request.token_ids)
    if not request.images:
        return {"prompt_token_ids": ids}
    return {
        "prompt_token_ids": ids,
        "multi_modal_data": {"image": [decode_image(image, i) for i, image in enumerate(request.images)]},
        # Saves hashing the pixels of the same image for every sample.
        "multi_modal_uuids": {"image": [hashlib.sha256(image.bytes).hexdigest() for image in request.images]},
    }


def _other_prompt(request: SampleRequest, outputs: dict[int, Any]) -> str | None:
    """That vLLM read another prompt than the policy's processor makes; None where it read the same."""
    for index, output in outputs.items():
        read_ids, given = output.prompt_token_ids, request.token_ids + request.prefix(index)
        if read_ids != given:
            return f"vLLM reads the prompt as {len(read_ids)} tokens and the policy's own processor gives {len(given)}"
    return None


def _failed(request: SampleRequest, reason: str) -> list[SampledCompletion]:
    return [SampledCompletion.failed(reason) for _ in range(request.n)]


def _completion(output: Any) -> SampledCompletion:
    """A completion of vLLM; an error where its numbers are lost or it ended for a reason of its own."""
    token_ids, logprobs = list(output.token_ids), list(output.logprobs.logprobs)
    if len(logprobs) != len(token_ids):
        return SampledCompletion.failed(f"vLLM gave {len(logprobs)} log-probs for {len(token_ids)} tokens")
    lost = next((i for i, logprob in enumerate(logprobs) if not math.isfinite(logprob)), None)
    if lost is not None:
        return SampledCompletion.failed(f"the model's output at token {lost + 1} is not finite")
    if output.finish_reason not in (FinishReason.STOP, FinishReason.LENGTH):
        return SampledCompletion.failed(f"vLLM ended the completion: {output.finish_reason}")
    return SampledCompletion(token_ids, logprobs, FinishReason(output.finish_reason))
