"""What samples replies: the protocol that engines fill and the rollout stage (and judges) use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from schemas.rollouts import Sampling
from schemas.values import Image, Message
from stages.core.stage import Resources

if TYPE_CHECKING:
    from stages.models.identity import PolicyRef


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine may use the machine."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`."""
    dtype: str = "auto"
    """`auto`, `float32`, `bfloat16`, `float16`."""
    batch_tokens: int = 65536
    """Most positions (rows x (prompt + reply)) held at once: the bound on memory."""
    trust_remote_code: bool = False
    """Run code that comes with the model's folder."""


@dataclass(slots=True)
class SampleRequest:
    """One prompt and how many replies it wants."""

    id: str
    """The prompt's id: with the seed and an index it decides a sample's noise."""
    token_ids: list[int]
    """The rendered prompt, image placeholders expanded. Shape (P,)."""
    image_inputs: dict[str, Any]
    """What `Engine.encode` returned for the pictures."""
    n: int
    """Replies wanted."""
    messages: list[Message] = field(default_factory=list)
    """The conversation, for engines that render it themselves."""
    images: list[Image] = field(default_factory=list)
    """The pictures, for engines that process them themselves."""


@dataclass(slots=True)
class Sampled:
    """One reply."""

    token_ids: list[int]
    """The end-of-sequence token included when it was sampled. Shape (T,)."""
    logprobs: list[float]
    """Of each id, as the sampler drew it: at its temperature, banned tokens excluded. Shape (T,)."""
    finish_reason: str
    """`stop`, `length` or `error`."""
    error: str | None = None
    """Why there is no reply, when the reason is `error`."""


class Encoding(Protocol):
    """A prompt as an engine takes it; see `stages.models.processor.Encoded`."""

    token_ids: list[int]
    image_inputs: dict[str, Any]


class Engine(Protocol):
    """A loaded engine with its policy."""

    label: str
    """Its name and version, kept in every completion."""
    banned_token_ids: list[int]
    """Ids whose probability it removes; the trainer masks the same ones."""
    max_positions: int
    """The longest prompt and reply together."""

    def encode(self, messages: list[Message], images: list[Image]) -> Encoding:
        """Render a prompt; BadSample when this model can't take it."""

    def decode(self, token_ids: list[int]) -> str:
        """The words of a reply."""

    def sample(self, requests: Iterable[SampleRequest], sampling: Sampling) -> Iterator[tuple[str, list[Sampled]]]:
        """(prompt id, its replies in index order) as they get ready, in any order of prompts.

        The same (prompt, seed, policy, index) gives the same reply whatever else is in the call.
        """


class EnginePlugin(Protocol):
    """An engine file's PLUGIN."""

    version: int
    """Raised when the same inputs would give other replies."""
    needs_policy: bool
    """False for an engine that samples without a model."""

    def open(self, ref: PolicyRef | None, settings: EngineSettings, resources: Resources) -> Engine:
        """Load it, or find it loaded in `resources`."""


def engine_name(name: str) -> str:
    """The engine that `auto` stands for."""
    return "transformers" if name == "auto" else name
