"""What `rollout` writes: a prompt with its G sampled completions, and each choice of those that were guided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from schemas.prompts import Edit, PromptRow
from schemas.values import Float32, Int32


class FinishReason(StrEnum):
    """Why a completion ends where it does; stored as these words."""

    STOP = "stop"
    """The policy ended it with an end-of-sequence token, or wrote one of `Sampling.stop`."""
    LENGTH = "length"
    """It was cut off at `Sampling.max_new_tokens`."""
    ERROR = "error"
    """There is no completion: see `Completion.error`."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a completion was drawn."""

    temperature: float
    """0 means greedy; log-probs are then those of the undivided distribution."""
    top_p: float
    """1.0 for anything that trains: a truncated sampler's log-probs are renormalised."""
    top_k: int
    """0 means off."""
    max_new_tokens: int
    """Generated tokens after which sampling stops with `length`."""
    seed: int
    """The run's seed; a completion's own stream is derived from (seed, prompt id, index)."""
    stop: list[str] = field(default_factory=list, hash=False)
    """Texts that end a completion once it has written one of them; the text stays in it."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of characters of a text."""

    start: int
    """The first character's place."""
    stop: int
    """The place after the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One sampled completion. `train` uses the ids and never renders the text again."""

    index: int
    """0..G-1 within the group."""
    text: str
    """The decoded completion without the end-of-sequence token."""
    token_ids: Sequence[Int32]
    """Its ids, the end-of-sequence token included when it was sampled. Shape (T,)."""
    logprobs: Sequence[Float32]
    """The sampler's log-prob of each id at its temperature, in nats, banned tokens excluded; 0.0 where the policy did
    not generate it. Shape (T,)."""
    finish_reason: str
    """`stop`, `length` or `error`."""
    sampling: Sampling
    """The parameters of this draw."""
    policy_id: str
    """Content digest of the policy that sampled it."""
    engine: str
    """The engine and its version."""
    error: str | None = None
    """Why there is no completion, when `finish_reason` is `error`."""
    stopped_by: str | None = None
    """Which of `Sampling.stop` ended it; None where none of them did."""
    generated: list[bool] | None = None
    """Which ids the policy generated; the others were put there, by an environment or a person, and are never learned
    from. None: all of them. Shape (T,)."""
    guided: bool = False
    """Its steps were chosen among several by value models (table `steps_guided`): it is no sample of the policy."""
    observed: list[Span] = field(default_factory=list)
    """What of `text` an environment wrote, one range an observation, in order: never the policy's words."""

    @property
    def own_text(self) -> str:
        """The text without what an environment wrote, a line break in its stead."""
        return without(self.text, [(span.start, span.stop) for span in self.observed])

    @property
    def generated_tokens(self) -> int:
        """How many of its ids the policy generated."""
        return len(self.token_ids) if self.generated is None else sum(self.generated)

    def whole_by_speakers(self, edit: Edit | None) -> bool:
        """Whether the policy, or in its row's edit a person, wrote all of it: a text to be imitated whole."""
        masks = ([], []) if edit is None else (edit.generated, edit.written)
        return whole_by_speakers(self.generated, *masks)


def whole_by_speakers(generated: list[bool] | None, begun: list[bool], written: list[bool]) -> bool:
    """Whether each id was generated, or stands in an edit's beginning where the policy or a person wrote it.

    `begun` and `written` are the edit's masks, empty without one. What is left is an environment's.
    """
    if generated is None:
        return True
    spoken = [a or b for a, b in zip(begun, written, strict=True)]
    return all(own or (at < len(spoken) and spoken[at]) for at, own in enumerate(generated))


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutGroup(PromptRow):
    """A prompt group: the prompt, its images once, and G completions."""

    prompt_token_ids: Sequence[Int32] = field(default_factory=list)
    """The rendered prompt, image placeholders expanded to the model's count. Shape (P,)."""
    banned_token_ids: Sequence[Int32] = field(default_factory=list)
    """Ids whose probability was removed while sampling; the trainer masks the same ones."""
    completions: list[Completion] = field(default_factory=list)
    """The group's completions, in index order: G of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedCandidate:
    """One of the continuations of a choice."""

    token_ids: Sequence[Int32]
    """What was sampled, without what stands before it. Shape (T,)."""
    values: list[float] = field(default_factory=list)
    """What each dimension was thought to come to with it, in the order of `GuidedStep.dimensions`; empty for one that
    could not be sampled, and where nothing was asked."""
    ahead: Sequence[Int32] = field(default_factory=list)
    """What was sampled behind it to judge it by, and dropped; its values are those with it. Shape (T,)."""
    cumulative: float | None = None
    """Of several beams: the mean of the weighed values of all choices that lead to it."""
    beam: int | None = None
    """Of several beams: which of them it became; None for one that was dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedStep:
    """One choice of a guided completion."""

    id: str
    """The prompt's id."""
    index: int
    """The completion's place in its group."""
    step: int
    """Which choice of the completion, from 0."""
    from_token: int
    """How many tokens the completion had."""
    dimensions: list[str] = field(default_factory=list)
    """The verifiers whose grades were predicted."""
    weights: list[float] = field(default_factory=list)
    """The weight of each dimension for this prompt; they sum to 1."""
    candidates: list[GuidedCandidate] = field(default_factory=list)
    """The continuations, in the order in which they were sampled."""
    chosen: int
    """The place of the one that was kept, of several that were kept the best; -1 where a beam was given up."""
    beam: int = 0
    """Which of several beams it goes on from."""


def without(text: str, spans: list[tuple[int, int]]) -> str:
    """The text without these ranges, which are in order; a line break in the stead of each."""
    ends, starts = [0, *(stop for _, stop in spans)], [*(start for start, _ in spans), len(text)]
    return "\n".join(text[a:b] for a, b in zip(ends, starts, strict=True))
