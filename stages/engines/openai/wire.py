"""What goes over the wire to an OpenAI-compatible server, and how strictly its answers are read."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image as Pillow

from schemas.rollouts import FinishReason, Sampling
from schemas.values import Image, Message
from stages.core.errors import UnavailableError, UsageError
from stages.engines.base import SampledCompletion, SampleRequest
from stages.engines.seeds import sampler_seed
from stages.engines.stop_strings import StopStrings
from stages.models.images import decode_image

if TYPE_CHECKING:
    from stages.models.processor import PromptProcessor

_ORIENTATION = 0x0112
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
# The least that `logit_bias` takes.
_BANNED = -100


class MalformedAnswer(Exception):
    """An answer that is not what was asked for; the message says in what way and quotes none of it."""

    final = False
    """Whether asking again would give the same."""


class OtherPrompt(MalformedAnswer):
    """The server rendered another prompt than the policy's own template does."""

    final = True


@dataclass(slots=True)
class Rendered:
    """A prompt for a server, which processes images itself."""

    token_ids: list[int]
    """Empty where the server alone has a tokenizer."""
    image_inputs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChatCalls:
    """Bodies and answers of one model's calls."""

    model: str
    need: str
    """See `EngineSettings.need`."""
    processor: PromptProcessor | None
    """The policy's where `need` is `ids`, else None."""

    def body(self, request: SampleRequest, index: int, sampling: Sampling) -> dict[str, Any]:
        """One call for one completion: a chat's, or where the completion has a beginning one that goes on from ids.

        UsageError where there are none to go on from.
        """
        prefix = request.prefix(index)
        body: dict[str, Any] = {
            "model": self.model,
            **(
                self._beginning(request, prefix)
                if prefix
                else {"messages": _messages(request.messages, request.images)}
            ),
            # One call a completion, each with its own seed: of n in one call the k-th would depend on n.
            "n": 1,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": request.limit(index, sampling.max_new_tokens),
            "seed": sampler_seed(sampling.seed, *request.noise_of(index), len(prefix)),
        }
        if sampling.stop:
            body["stop"] = sampling.stop
        if self.need != "words":
            # Completions count them from 1; a chat tells the sampled one's.
            body["logprobs"] = 1 if prefix else True
        if self.processor is not None:
            body["logit_bias"] = {str(i): _BANNED for i in self.processor.banned_token_ids}
            # A server fills what is left out from the model's generation_config.json: penalties would bias the ratio.
            body["extra_body"] = {
                "return_token_ids": True,
                "top_k": sampling.top_k or -1,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                **({"include_stop_str_in_output": True} if sampling.stop else {}),
            }
            body |= {"frequency_penalty": 0.0, "presence_penalty": 0.0}
        return body

    def _beginning(self, request: SampleRequest, prefix: list[int]) -> dict[str, Any]:
        if self.processor is None:
            raise UsageError("engine openai can't go on from token ids that it has no tokenizer for", "add --policy")
        if request.images:
            raise UsageError(
                f"prompt {request.id} has images, and a server goes on from token ids of words alone",
                "use --engine vllm, or --engine transformers",
            )
        return {"prompt": request.token_ids + prefix}

    def read(self, content: bytes, request: SampleRequest, index: int, sampling: Sampling) -> SampledCompletion:
        """The completion in an answer's body, up to the first of the stop texts; MalformedAnswer where it has none."""
        try:
            answer = json.loads(content)
        # A server may send anything: RecursionError is JSON that is nested too deeply.
        except (ValueError, RecursionError):
            raise MalformedAnswer(f"malformed answer: {len(content)} bytes that are not JSON") from None
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            count = len(choices) if isinstance(choices, list) else "no"
            raise MalformedAnswer(f"malformed answer: {count} choices where 1 was asked for")
        choice = choices[0]
        cut = choice.get("finish_reason") == FinishReason.LENGTH
        reason = FinishReason.LENGTH if cut else FinishReason.STOP
        if self.need == "words":
            return SampledCompletion([], [], reason, words=[_content(choice)], stopped_by=_stopped_by(choice))
        prefix = request.prefix(index)
        words, logprobs = _completion_logprobs(choice) if prefix else _logprobs(choice)
        if self.processor is None:
            return SampledCompletion([], logprobs, reason, words=words, stopped_by=_stopped_by(choice))
        token_ids = self._ids(answer, choice, request.token_ids + prefix, self.processor)
        if len(token_ids) != len(logprobs):
            raise MalformedAnswer(f"malformed answer: {len(token_ids)} token ids and {len(logprobs)} log-probs")
        sampled = SampledCompletion(token_ids, logprobs, reason, stopped_by=_stopped_by(choice))
        # A server looks for the texts in what it sampled itself, and not across the end of a prefix.
        return StopStrings(sampling.stop, self.processor.decode).cut(prefix, sampled)

    def _ids(
        self, answer: dict[str, Any], choice: dict[str, Any], prompt_ids: list[int], processor: PromptProcessor
    ) -> list[int]:
        # Chats tell the prompt's ids once, completions with each choice.
        told = answer.get("prompt_token_ids") or choice.get("prompt_token_ids")
        token_ids, read_ids = _list_of_ids(choice.get("token_ids")), _list_of_ids(told)
        if token_ids is None or read_ids is None:
            raise UnavailableError(
                f"the server of {self.model} returns no token ids, and training needs the ids that were sampled",
                "use vLLM's server (return_token_ids), or --engine transformers",
            )
        # Images: some versions give the prompt before its placeholders are expanded.
        if read_ids not in (prompt_ids, processor.renderer_ids(prompt_ids)):
            raise OtherPrompt(
                f"the server read the prompt as {len(read_ids)} tokens and the policy's own template gives"
                f" {len(prompt_ids)}: is it the same model?"
            )
        return token_ids


def _list_of_ids(value: Any) -> list[int] | None:
    return value if isinstance(value, list) and all(type(i) is int for i in value) else None


def _content(choice: dict[str, Any]) -> str:
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else 0
    if content is not None and not isinstance(content, str):
        raise MalformedAnswer("malformed answer: a choice without a message")
    return content or ""


def _stopped_by(choice: dict[str, Any]) -> str | None:
    """The stop text that a server says it found; an end-of-sequence token is a number there, or nothing."""
    reason = choice.get("stop_reason")
    return reason if isinstance(reason, str) else None


def _logprobs(choice: dict[str, Any]) -> tuple[list[str], list[float]]:
    """Each token's words and log-prob, as chats tell them."""
    given = choice.get("logprobs")
    entries = given.get("content") if isinstance(given, dict) else None
    if not isinstance(entries, list):
        raise MalformedAnswer("malformed answer: no log-probs, which were asked for")
    return _finite(lambda: ([str(e["token"]) for e in entries], [float(e["logprob"]) for e in entries]))


def _completion_logprobs(choice: dict[str, Any]) -> tuple[list[str], list[float]]:
    """Each token's words and log-prob, as completions tell them."""
    given = choice.get("logprobs")
    if not isinstance(given, dict):
        raise MalformedAnswer("malformed answer: no log-probs, which were asked for")
    return _finite(lambda: (list(map(str, given["tokens"])), list(map(float, given["token_logprobs"]))))


def _finite(read: Callable[[], tuple[list[str], list[float]]]) -> tuple[list[str], list[float]]:
    try:
        words, logprobs = read()
    except (TypeError, KeyError, ValueError):
        raise MalformedAnswer("malformed answer: log-probs of another shape") from None
    if not all(math.isfinite(logprob) for logprob in logprobs):
        raise MalformedAnswer("malformed answer: a log-prob is not finite")
    return words, logprobs


def _messages(messages: list[Message], images: list[Image]) -> list[dict[str, Any]]:
    numbered = iter(enumerate(images))
    turns: list[dict[str, Any]] = []
    for message in messages:
        parts: list[dict[str, Any]] = []
        for part in message.content:
            if part.type == "image":
                position, image = next(numbered)
                parts.append({"type": "image_url", "image_url": {"url": data_url(image, position)}})
            else:
                parts.append({"type": "text", "text": part.text or ""})
        if all(p["type"] == "text" for p in parts):
            turns.append({"role": message.role, "content": "".join(p["text"] for p in parts)})
        else:
            turns.append({"role": message.role, "content": parts})
    return turns


def data_url(image: Image, position: int = 0) -> str:
    """The image as every engine sees it: as it was read, or upright in RGB where a server might read it otherwise."""
    kind, content = is_upright(image, position), image.bytes
    if kind is None:
        stream = io.BytesIO()
        decode_image(image, position).save(stream, "PNG")
        kind, content = "image/png", stream.getvalue()
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def is_upright(image: Image, position: int = 0) -> str | None:
    """The media type of an image that is plain upright RGB in a common format, else None. BadSample for no image."""
    decode_image(image, position)
    with Pillow.open(io.BytesIO(image.bytes)) as opened:
        plain = (
            opened.mode == "RGB" and "transparency" not in opened.info and opened.getexif().get(_ORIENTATION, 1) == 1
        )
        return _TYPES.get(opened.format or "") if plain else None
