"""What samples completions: the base classes that engines fill, and what the rollout stage and judges hand them.

An engine plugin says what it needs and opens an engine; the engine renders prompts, samples and decodes. Both have
optional hooks with defaults that are right for most engines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from schemas.rollouts import FinishReason, Sampling
from schemas.values import Image, Message
from stages.core.config import option
from stages.core.errors import CosmoError, InputError, UsageError, what_failed
from stages.core.stage import Resources

if TYPE_CHECKING:
    from stages.models.policy_ref import PolicyRef
    from stages.models.processor import PromptProcessor

TIMED_OUT = "timed out"
"""What `SampledCompletion.error` begins with when time was the reason."""
FAILED_HINT = "try --set batch_tokens=4096, or --device cpu; if the numbers are not finite, check the policy"
"""What to type where completions of a model on this machine fail."""

_TOKENIZER_HINT = "use --engine transformers, vllm, fake, or openai with --policy"


@dataclass(frozen=True)
class ServerTable:
    """How an engine that asks a server reaches it.

    None of it can change a row, so none of it is in a run's key.
    """

    url: str = option("", "OpenAI-compatible server: http://HOST:8000/v1 (engine openai)", affects=False)
    model: str = option("", "What the server calls the model; left out: the policy as it was typed", affects=False)
    concurrency: int = option(16, "Calls under way at a time", low=1, high=1024, affects=False)
    timeout_s: float = option(120.0, "Seconds one call may take, its last byte included", low=0.1, affects=False)
    retries: int = option(4, "How often a failed call is tried again, later and later", low=0, affects=False)
    api_key_env: str = option("", "Name of the environment variable that holds the server's key", affects=False)
    reload: bool = option(
        False, "Give the policy's weights to vLLM's server first (VLLM_SERVER_DEV_MODE=1, same paths)", affects=False
    )

    def __post_init__(self) -> None:
        """A UsageError for a url that is none, or that holds a secret: it would be kept in config.json."""
        try:
            parts = urlsplit(self.url)
            # Within the try: asked for its port, a result raises where that is no number.
            whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            raise UsageError("the server's url is not an address", "url = 'http://HOST:8000/v1'") from None
        if self.url and (parts.username or parts.password or parts.query):
            raise UsageError(
                f"the url of {parts.hostname} holds more than an address",
                "put the key into an environment variable and name it: api_key_env",
            )
        if self.url and not whole:
            raise UsageError(f"url {self.url!r} is not an address", "url = 'http://HOST:8000/v1'")


@dataclass(frozen=True)
class VllmTable:
    """How the engine vllm uses the machine. Of these a shorter `max_model_len` can change rows, and what is in `extra`.

    There is no data_parallel_size: vLLM has none in process. `--executor ray` or one `--worker i/n` a GPU do the same.
    """

    tensor_parallel_size: int = option(1, "GPUs that share one copy of the model", low=1, affects=False)
    gpu_memory_utilization: float = option(
        0.9, "Share of a GPU's memory; less where training shares the GPU", low=0.01, high=1.0, affects=False
    )
    max_model_len: int = option(
        0, "Longest prompt and completion together: longer ones are left out; 0: the model's own", low=0
    )
    enforce_eager: bool = option(False, "Record no CUDA graphs: starts sooner, samples slower", affects=False)
    kv_cache_gb: float = option(
        0.0, "GiB for keys and values; 0: 1 on a CPU, what the share leaves on a GPU", low=0.0, affects=False
    )
    # A quantisation among them is another sampler: nobody knows which of them change rows.
    extra: dict[str, Any] = option({}, "More arguments of vllm.LLM, as they are")


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine may use the machine."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`."""
    dtype: str = "auto"
    """`auto`, `float32`, `bfloat16`, `float16`."""
    batch_tokens: int = 65536
    """Most positions (rows x (prompt + completion)) held at once: the bound on memory."""
    trust_remote_code: bool = False
    """Run code that comes with the model's folder."""
    server: ServerTable = ServerTable()
    """Where the model is, for engines that ask a server."""
    vllm: VllmTable = VllmTable()
    """How vLLM uses the machine, for the engine that is vLLM."""
    need: str = "ids"
    """What completions must hold: `ids` with their log-probs, which training needs; a judge's answer may be less:
    `logprobs` of `words`, or `words` alone. An engine may always give more."""


@dataclass(slots=True)
class SampleRequest:
    """One prompt and how many completions it is to get."""

    id: str
    """The prompt's id: with the seed and an index it decides a completion's noise."""
    token_ids: list[int]
    """The rendered prompt, image placeholders expanded. Shape (P,)."""
    image_inputs: dict[str, Any]
    """What `Engine.encode` returned for the images."""
    n: int
    """How many completions."""
    messages: list[Message] = field(default_factory=list)
    """The conversation, for engines that render it themselves."""
    images: list[Image] = field(default_factory=list)
    """The images, for engines that process them themselves."""
    prefix_ids: Sequence[Sequence[int]] = field(default_factory=list)
    """The ids each completion begins with, one list a sample; empty: none does. They are kept as they are, and only
    what follows them is sampled and returned, with the noise of its place: a completion cut at any token goes on as it
    went on before. One that ends with an end-of-sequence token is finished."""
    limits: list[int] = field(default_factory=list)
    """The most ids each sample may get now; empty: what its prefix leaves of `Sampling.max_new_tokens`. For a prefix
    that holds more than was generated."""
    noise: tuple[str, int] | None = None
    """(prompt id, index): whose noise the first sample has, those after it that of the places after it. For one that
    goes on from another prompt's completion; None: its own, from 0."""

    def __post_init__(self) -> None:
        """ValueError for prefixes or limits of another number of samples."""
        for name, given in (("prefixes", self.prefix_ids), ("limits", self.limits)):
            if given and len(given) != self.n:
                raise ValueError(f"prompt {self.id}: {len(given)} {name} for {self.n} samples")

    def noise_of(self, index: int) -> tuple[str, int]:
        """(prompt id, index) whose noise completion `index` has."""
        ident, first = self.noise or (self.id, 0)
        return ident, first + index

    def prefix(self, index: int) -> list[int]:
        """The ids that completion `index` begins with."""
        # Rows hold their ids in other sequences than lists, to which a prompt's can't be added.
        return list(self.prefix_ids[index]) if self.prefix_ids else []

    def limit(self, index: int, new_tokens: int) -> int:
        """The most ids that completion `index` may get now, where one without a prefix may get `new_tokens`."""
        return max(0, self.limits[index] if self.limits else new_tokens - len(self.prefix(index)))

    def finished(self, index: int, new_tokens: int, eos: Collection[int]) -> SampledCompletion | None:
        """What is left of a completion that its prefix or its limit has ended already; None where it can go on."""
        prefix = self.prefix(index)
        if prefix and prefix[-1] in eos:
            return SampledCompletion([], [], FinishReason.STOP)
        return None if self.limit(index, new_tokens) else SampledCompletion([], [], FinishReason.LENGTH)

    def alike(self, sampling: Sampling) -> bool:
        """Whether one completion tells all of them: a greedy sampler has no luck, where all begin alike."""
        return sampling.temperature == 0 and not self.prefix_ids and not self.limits

    def longest(self, new_tokens: int) -> int:
        """The most ids that any of its completions can have, their beginnings with them."""
        if not self.prefix_ids and not self.limits:
            return new_tokens
        return max((len(self.prefix(i)) + self.limit(i, new_tokens) for i in range(self.n)), default=0)


@dataclass(slots=True)
class SampledCompletion:
    """One completion as an engine gives it."""

    token_ids: list[int]
    """What was sampled now, without its prefix, the end-of-sequence token included when it was sampled. Shape (T,)."""
    logprobs: list[float]
    """Of each id, as the sampler drew it: at its temperature, banned tokens excluded. Shape (T,)."""
    finish_reason: FinishReason
    """Why it ends where it does."""
    error: str | None = None
    """Why there is no completion, when the reason is `error`."""
    words: list[str] | None = None
    """The completion in pieces, one a token where there are log-probs, from an engine that was asked for no ids."""
    stopped_by: str | None = None
    """Which of `Sampling.stop` ended it; None where none of them did."""

    @classmethod
    def failed(cls, reason: str) -> SampledCompletion:
        """No completion, and one line that says why."""
        return cls([], [], FinishReason.ERROR, reason)


class Encoding(Protocol):
    """A prompt as an engine takes it; see `stages.models.processor.Encoded`."""

    token_ids: list[int]
    image_inputs: dict[str, Any]


def _unheard(completions: int, tokens: int) -> None:
    """Nobody wants to know."""


class Engine(ABC):
    """A loaded engine with its policy.

    Example: an engine that says the same to everyone::

        class Parrot(Engine):
            label, banned_token_ids, max_positions = "parrot/1", [], 4096

            def encode(self, messages, images):
                return Encoded(list(plain_text(messages).encode()), {})

            def decode(self, token_ids):
                return bytes(token_ids).decode()

            def sample(self, requests, sampling):
                for request in requests:
                    one = SampledCompletion(list(b"hello"), [0.0] * 5, FinishReason.STOP)
                    yield request.id, [one] * request.n
    """

    label: str
    """Its name and version, kept in every completion."""
    banned_token_ids: list[int]
    """Ids whose probability it removes; the trainer masks the same ones."""
    max_positions: int
    """The longest prompt and completion together."""
    processor: PromptProcessor | None = None
    """The policy's tokenizer and templates, of an engine that has them."""
    heard: Callable[[int, int], None] = staticmethod(_unheard)
    """Told, while `sample` is under way, how many completions ended and how many tokens were drawn since the last time:
    by an engine that draws many groups at once, so that a person sees it move. What a group holds counts anyway."""

    @abstractmethod
    def encode(self, messages: list[Message], images: list[Image]) -> Encoding:
        """Render a prompt; BadSample when this model can't take it."""

    @abstractmethod
    def decode(self, token_ids: list[int]) -> str:
        """The text of a completion, without control tokens."""

    @abstractmethod
    def sample(
        self, requests: Iterable[SampleRequest], sampling: Sampling
    ) -> Iterator[tuple[str, list[SampledCompletion]]]:
        """(prompt id, its completions in index order) as they get ready, in any order of prompts.

        The same (prompt, seed, policy, index, prefix) gives the same completion whatever else is in the call. A
        completion that can't be had is a failed one; what is raised ends the run, a UsageError from an engine that
        can't go on from a prefix among it.
        """

    def text_ids(self, text: str) -> list[int]:
        """The ids of words that an environment puts into a completion; no control token, whatever they spell.

        By default its `processor`'s; UsageError without one.
        """
        if self.processor is None:
            raise UsageError(f"the engine {self.label} has no tokenizer for an environment's words", _TOKENIZER_HINT)
        from stages.models.processor import text_ids

        return text_ids(self.processor, text)

    def sleep(self) -> None:  # noqa: B027
        """Give an accelerator's memory back and be quick to `wake`; by default nothing, for one that keeps none."""

    def wake(self) -> None:  # noqa: B027
        """Be ready again after `sleep`; sampling wakes it, too. By default nothing."""

    def stop(self) -> None:  # noqa: B027
        """End what runs for it and give all memory back. By default nothing: its policy lies in `Resources`."""

    def notice(self) -> str | None:
        """One line a person should read about how this policy is sampled, said once a process; by default none."""
        return None

    def none_sampled(self, message: str) -> CosmoError:
        """The error of a shard of which not one completion could be had; `message` says how many and why."""
        return InputError(message, FAILED_HINT)

    def trouble(self) -> dict[str, Any] | None:
        """Batches that failed and were drawn in smaller ones since this was last asked; by default none are known.

        `planned` (batches there were to be), `halved` (how many failed, by reason), `lost_s` (seconds they took).
        """
        return None


class EnginePlugin(ABC):
    """An engine file's PLUGIN.

    Example::

        class ParrotPlugin(EnginePlugin):
            version = 1
            needs_policy = False

            def open(self, ref, settings, resources):
                return Parrot()

        PLUGIN = ParrotPlugin()
    """

    version: int
    """Raised when the same inputs would give other completions."""
    needs_policy: bool = True
    """False for an engine that can sample without a model of its own."""

    @abstractmethod
    def open(self, ref: PolicyRef | None, settings: EngineSettings, resources: Resources) -> Engine:
        """Load the policy, or find it loaded in `resources`.

        Raises UsageError for settings that can't be, UnavailableError where this machine lacks something.
        """

    def gpus(self, settings: EngineSettings) -> int:
        """How many GPUs one of these engines takes where there are any; by default none."""
        return 0


def batch_failed(error: Exception) -> str:
    """Why a batch failed; of one that memory was too small for, what it held is given back."""
    import torch

    if not isinstance(error, torch.OutOfMemoryError):
        return what_failed(error)
    # Blocks of the failed attempt are of sizes that the halves will not ask for.
    torch.cuda.empty_cache()
    return "out of memory"


def engine_name(name: str) -> str:
    """The engine that `auto` stands for."""
    return "transformers" if name == "auto" else name
