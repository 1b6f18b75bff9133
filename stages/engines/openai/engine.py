"""The engine behind `plugin.py`: many calls at a time, each tried again until it is good or its tries are used up.

The package's own retries are off: a body that trickles in or is no JSON has to count as a failed try as well, and the
time limit is for a whole try. Nothing that a server does raises here, but for one that can't serve at all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import openai
from anyio.from_thread import start_blocking_portal

from schemas.rollouts import Sampling
from schemas.values import Image, Message
from stages.core.errors import BadSample, UnavailableError
from stages.engines.base import TIMED_OUT, Encoding, Engine, SampledCompletion, SampleRequest, ServerTable
from stages.engines.openai.wire import ChatCalls, MalformedAnswer, Rendered, is_upright

if TYPE_CHECKING:
    from stages.models.processor import PromptProcessor

# Pauses before another try: doubled each time, with jitter, or as long as the server asks for.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
# Timeout, conflict, too early, too many: these pass. Any other 4xx says the same next time; 5xx is tried again, too.
_RETRIED = (408, 409, 425, 429)
# What a server answers that has no completions beside chats.
_NO_SUCH_CALL = (404, 405, 501)
_NO_KEY = "none"
_LONGEST_TEXT = 100
Read = Callable[[bytes], SampledCompletion]


class OpenAIEngine(Engine):
    """A server that samples, and the policy's tokenizer where ids are needed."""

    def __init__(
        self,
        server: ServerTable,
        model: str,
        key: str | None,
        need: str,
        processor: PromptProcessor | None,
        label: str,
    ) -> None:
        self.label = label
        self.processor = processor
        self.banned_token_ids = processor.banned_token_ids if processor else []
        # Without a tokenizer the server is the one who knows; it answers a longer prompt with an error.
        self.max_positions = processor.max_positions if processor else 1 << 31
        self._server, self._key, self._processor = server, key, processor
        self._calls = ChatCalls(model, need, processor)

    def encode(self, messages: list[Message], images: list[Image]) -> Encoding:
        """The ids where there is a tokenizer; BadSample for an image that is none."""
        if self._processor is not None:
            return Rendered(self._processor.encode(messages, images).token_ids)
        if sum(p.type == "image" for m in messages for p in m.content) != len(images):
            raise BadSample("malformed", f"{len(images)} images do not match the image parts")
        for position, image in enumerate(images):
            is_upright(image, position)
        return Rendered([])

    def decode(self, token_ids: list[int]) -> str:
        """The words of a completion that has ids."""
        return self._processor.decode(token_ids) if self._processor else ""

    def sample(
        self, requests: Iterable[SampleRequest], sampling: Sampling
    ) -> Iterator[tuple[str, list[SampledCompletion]]]:
        """Completions as they arrive. See `Engine.sample`; requests are taken one by one, as calls get free."""
        waiting = iter(requests)
        under_way: dict[Future[SampledCompletion], tuple[SampleRequest, int]] = {}
        drawn: dict[int, dict[int, SampledCompletion]] = {}
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(_client(self._server, self._key)) as client,
        ):
            # Requests are counted below, and each has several samples: calls are what is limited.
            free = portal.call(anyio.Semaphore, self._server.concurrency)
            while True:
                while len(under_way) < self._server.concurrency and (request := next(waiting, None)) is not None:
                    ended = _ended(request, sampling, self._processor)
                    if len(ended) == request.n:
                        yield request.id, [ended[i] for i in range(request.n)]
                        continue
                    drawn[id(request)] = ended
                    for index in range(1 if request.alike(sampling) else request.n):
                        if index not in ended:
                            body = self._calls.body(request, index, sampling)
                            read = partial(self._calls.read, request=request, index=index, sampling=sampling)
                            future = portal.start_task_soon(self._ask, client, free, body, read)
                            under_way[future] = (request, index)
                if not under_way:
                    return
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    request, index = under_way.pop(future)
                    done = drawn[id(request)]
                    done[index] = future.result()
                    if request.alike(sampling):
                        done |= dict.fromkeys(range(request.n), done[index])
                    if len(done) == request.n:
                        del drawn[id(request)]
                        yield request.id, [done[i] for i in range(request.n)]

    async def _ask(
        self, client: openai.AsyncOpenAI, free: anyio.Semaphore, body: dict[str, Any], read: Read
    ) -> SampledCompletion:
        """One completion; a failed one with the last try's reason when all of them failed.

        UnavailableError where a completion has a beginning and the server has none that go on from one.
        """
        goes_on = "prompt" in body
        create = (client.completions if goes_on else client.chat.completions).with_raw_response.create
        async with free:
            for attempt in range(self._server.retries + 1):
                reason, pause = "", 0.0
                try:
                    with anyio.fail_after(self._server.timeout_s):
                        raw = await create(**body)
                    return read(raw.content)
                except (TimeoutError, openai.APITimeoutError):
                    reason = f"{TIMED_OUT} after {self._server.timeout_s:g} s"
                except openai.APIStatusError as error:
                    reason = _status(error, self._key)
                    if goes_on and error.status_code in _NO_SUCH_CALL:
                        raise UnavailableError(
                            f"the server of {self._calls.model} has no completions that go on from token ids: {reason}",
                            "use vLLM's server, or --engine transformers",
                        ) from None
                    if error.status_code not in _RETRIED and error.status_code < 500:
                        break
                    pause = _asked_for(error)
                except MalformedAnswer as error:
                    reason = str(error)
                    if error.final:
                        break
                except openai.APIConnectionError as error:
                    reason = f"no connection: {type(error.__cause__ or error).__name__}"
                except openai.OpenAIError as error:
                    reason = type(error).__name__
                if attempt < self._server.retries:
                    await anyio.sleep(max(pause, _backoff(attempt)))
        return SampledCompletion.failed(reason)

    def none_sampled(self, message: str) -> UnavailableError:
        """The server's failure: what fits another machine's memory is not ours to advise on."""
        return UnavailableError(
            f"{message} (the server at {self._server.url})",
            "its log says why; --set server.timeout_s=... and server.retries=... give it more time",
        )


def _status(error: openai.APIStatusError, key: str | None) -> str:
    """The status, with the server's word for it; never the key, which some servers repeat."""
    if 300 <= error.status_code < 400:
        return f"HTTP {error.status_code}: the server points elsewhere, and redirects are not followed"
    body = error.body if isinstance(error.body, dict) else {}
    text = " ".join(str(body.get("message") or "").split())
    # Such an answer is about the key, and what is said here stands in rows.
    if error.status_code in (401, 403) or (key and key in text):
        text = ""
    return f"HTTP {error.status_code}" + (f": {text[:_LONGEST_TEXT]}" if text else "")


def _client(server: ServerTable, key: str | None) -> openai.AsyncOpenAI:
    """A client without tries of its own."""
    # Everything is said here, so that a key in OPENAI_API_KEY never goes to a server that it is not for.
    return openai.AsyncOpenAI(
        api_key=key or _NO_KEY,
        base_url=server.url,
        timeout=server.timeout_s,
        max_retries=0,
        # The library follows redirects: prompts and images would be posted to whatever address a server names.
        http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        default_headers={"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()},  # type: ignore[dict-item]
    )


def _ended(
    request: SampleRequest, sampling: Sampling, processor: PromptProcessor | None
) -> dict[int, SampledCompletion]:
    """The samples that nothing is left of to ask for."""
    eos = processor.eos_token_ids if processor else ()
    found = ((i, request.finished(i, sampling.max_new_tokens, eos)) for i in range(request.n))
    return {i: ended for i, ended in found if ended is not None}


def _backoff(attempt: int) -> float:
    # Calls that failed together must not come back together.
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1.0)


def _asked_for(error: openai.APIStatusError) -> float:
    """Retry-After in seconds, within reason; 0 where it is not given as a number."""
    try:
        return min(_LONGEST_PAUSE_S, max(0.0, float(error.response.headers.get("retry-after", 0))))
    except ValueError:
        return 0.0
