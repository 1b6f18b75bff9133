"""No model: completions drawn from a hash of the prompt, for trying a pipeline in no time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas.rollouts import FinishReason, Sampling
from schemas.values import Image, Message, plain_text
from stages.core.errors import BadSample
from stages.core.stage import Resources
from stages.engines.base import Engine, EnginePlugin, EngineSettings, SampledCompletion, SampleRequest
from stages.engines.stop_strings import StopStrings

if TYPE_CHECKING:
    from stages.models.policy_ref import PolicyRef

# Bytes are their own ids; then one for the end and one for an image.
_EOS, _IMAGE = 256, 257
_COMPLETIONS = (
    "<think> i count the shapes . </think> {number}",
    "<think> i look at the picture . </think> {letter}",
    "<think> the question says {word} . </think> {word}",
    "sorry , i can not help with that .",
    "{word} {number}",
)


_VERDICTS = "End with one line"
"""How the prompts of `stages.judging` begin the sentence that names their verdicts."""
_NO_VERDICT = frozenset({"verdict", "and", "or", "one", "of"})


@dataclass(slots=True)
class _Bytes:
    token_ids: list[int]
    image_inputs: dict[str, Any] = field(default_factory=dict)


class FakeEngine(Engine):
    """Deterministic completions of a few shapes: right, wrong, refusing, without a think block; a judge's verdict."""

    def __init__(self) -> None:
        self.label = "fake/2"
        self.banned_token_ids = [_IMAGE]
        self.max_positions = 4096

    def encode(self, messages: list[Message], images: list[Image]) -> _Bytes:
        """UTF-8 bytes, after one id an image. BadSample for bytes that are no image."""
        if images:
            from stages.models.images import decode_image

            for position, image in enumerate(images):
                decode_image(image, position)
        if sum(p.type == "image" for m in messages for p in m.content) != len(images):
            raise BadSample("malformed", f"{len(images)} images do not match the image parts")
        return _Bytes([_IMAGE] * len(images) + list(plain_text(messages).encode()))

    def decode(self, token_ids: list[int]) -> str:
        """The bytes as text, without the end and the images."""
        return bytes(i for i in token_ids if i < _EOS).decode(errors="replace")

    def sample(
        self, requests: Iterable[SampleRequest], sampling: Sampling
    ) -> Iterator[tuple[str, list[SampledCompletion]]]:
        """Completions from sha256(seed, prompt id, index); see `Engine.sample`."""
        for request in requests:
            yield request.id, [self._completion(request, index, sampling) for index in range(request.n)]

    def _completion(self, request: SampleRequest, index: int, sampling: Sampling) -> SampledCompletion:
        # A greedy sampler has no luck: every sample of a prompt is the same.
        ident, drawn_index = request.noise_of(index)
        drawn = (sampling.seed, drawn_index) if sampling.temperature > 0 else ()
        noise = hashlib.sha256(f"{drawn}|{ident}".encode()).digest()
        asked = self.decode(request.token_ids)
        words = asked.split() or ["nothing"]
        text = _COMPLETIONS[noise[0] % len(_COMPLETIONS)].format(
            number=noise[1] % 10, letter="ABCD"[noise[2] % 4], word=words[noise[3] % len(words)]
        )
        # As a judge it says one of the verdicts that the prompt ends with.
        if _VERDICTS in asked:
            named = re.findall(r"\w+", asked.rpartition(_VERDICTS)[2])
            verdicts = [word for word in named if word.lower() not in _NO_VERDICT] or words
            text = f"Verdict: {verdicts[noise[0] % len(verdicts)]}"
        if (ended := request.finished(index, sampling.max_new_tokens, (_EOS,))) is not None:
            return ended
        # What comes next depends on its place alone, whatever stands before it.
        prefix, whole = request.prefix(index), [*text.encode(), _EOS]
        start = len(prefix)
        token_ids = (whole[start:] or [_EOS])[: request.limit(index, sampling.max_new_tokens)]
        logprobs = [-(noise[at % len(noise)] + 1) / 256 for at in range(start, start + len(token_ids))]
        reason = FinishReason.STOP if token_ids[-1] == _EOS else FinishReason.LENGTH
        sampled = SampledCompletion(token_ids, logprobs, reason)
        return StopStrings(sampling.stop, self.decode).cut(prefix, sampled)


class FakePlugin(EnginePlugin):
    """Opens a fake engine, whose version is that of its completions."""

    version = 2
    needs_policy = False

    def open(self, ref: PolicyRef | None, settings: EngineSettings, resources: Resources) -> FakeEngine:
        """A new engine: there is no model to load, so a policy is only named."""
        return FakeEngine()


PLUGIN = FakePlugin()
