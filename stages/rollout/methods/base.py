"""The contract of a rollout method: from a shard's prompts and an engine to each group's completions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.prompts import PromptRow
from schemas.rollouts import FinishReason, Sampling
from schemas.tables import Table
from stages.core.stage import Context
from stages.engines.base import Engine, SampledCompletion, SampleRequest


@dataclass(frozen=True, slots=True)
class Beginning:
    """What every completion of a group begins with, where somebody edited one."""

    token_ids: list[int]
    """Also the request's prefix of each sample. Shape (T,)."""
    logprobs: list[float]
    """0.0 where the policy did not generate an id. Shape (T,)."""
    generated: list[bool]
    """Which ids count as the policy's own. Shape (T,)."""
    guided: bool = False
    """See `Completion.guided`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt of the shard, and the request for its group."""

    prompt: PromptRow
    request: SampleRequest
    """Rendered by the engine, `n` = the group size, prefixes for an edited row alone: what plain sampling hands over as
    it is."""
    beginning: Beginning | None = None
    """What an edited row's completions begin with; None for all others."""


@dataclass(slots=True)
class DrawnCompletion:
    """What a method says of one completion; all else in the row (sampling, policy, engine) is the same for a run."""

    token_ids: list[int]
    """The whole completion, what was put there by others included. Shape (T,)."""
    logprobs: list[float]
    """The sampler's log-prob of each id; 0.0 where the policy did not generate it. Shape (T,)."""
    finish_reason: FinishReason
    """Why it ends where it does."""
    error: str | None = None
    """Why there is no completion, when the reason is `error`."""
    stopped_by: str | None = None
    """Which of `Sampling.stop` ended it."""
    generated: list[bool] | None = None
    """Which ids the policy generated; None: all. Shape (T,)."""
    guided: bool = False
    """Its steps were chosen among several."""

    @classmethod
    def of(cls, sampled: SampledCompletion, beginning: Beginning | None = None) -> DrawnCompletion:
        """A completion as an engine gave it, after its beginning."""
        rest = (sampled.finish_reason, sampled.error, sampled.stopped_by)
        if beginning is None or sampled.error is not None:
            return cls(sampled.token_ids, sampled.logprobs, *rest)
        generated = None
        if not all(beginning.generated):
            generated = [*beginning.generated, *(True for _ in sampled.token_ids)]
        ids, logprobs = beginning.token_ids + sampled.token_ids, beginning.logprobs + sampled.logprobs
        return cls(ids, logprobs, *rest, generated=generated, guided=beginning.guided)


@dataclass(slots=True)
class DrawnGroup:
    """All completions of one prompt, as a method gives them."""

    id: str
    """The prompt's id."""
    completions: list[DrawnCompletion]
    """In index order, as many as the request's `n`."""
    rows: list[Any] = field(default_factory=list)
    """Rows of the method's further table about this group, where it has one."""


Draw = Callable[[Sequence[Asked]], Iterator[DrawnGroup]]
"""A shard's prompts to their groups, each once, as they get ready and in any order; called once a shard.

Two rules. A group depends on its own prompt, the sampling, the policy and the method's settings, and on nothing else in
the call: so shards, batches, workers and a kill change no row. What is wrong with one completion is its `error`;
what is raised ends the run.
"""


class RolloutMethod(ABC):
    """How the completions of a run come about. Made from the config while planning, before any model is loaded.

    `stages.rollout.methods.choose` says which settings choose which method. Everything around it is the stage's: the
    choice of prompts, rendering, rejecting what is too long, the rows and their order, the run where every completion
    failed. Old methods' rows must stay to the bit where a new one comes.

    Example: plain sampling, whose every step is the engine's::

        class Plain(RolloutMethod):
            def open(self, ctx, engine, sampling):
                def draw(asked):
                    for ident, samples in engine.sample([one.request for one in asked], sampling):
                        yield DrawnGroup(ident, [DrawnCompletion.of(one) for one in samples])
                return draw
    """

    table: Table | None = None
    """A further table that it writes, `<run>/<table's name>/00000.parquet` beside each shard; None: no such rows.
    `stages.core.runs.folder.further_rows` reads it."""

    goes_on: bool = False
    """Whether its completions begin with `Asked.beginning`; edited rows are rejected where not."""

    def key(self, ctx: Context) -> dict[str, Any]:
        """What can change rows beyond the config: versions of plugins, digests of what is read. Part of the run's key.

        Called while planning: it loads no model. UsageError or InputError for settings that can't be.
        """
        return {}

    def longest(self, sampling: Sampling) -> int:
        """The most ids that a completion may have: a prompt that leaves less room is rejected."""
        return sampling.max_new_tokens

    @abstractmethod
    def open(self, ctx: Context, engine: Engine, sampling: Sampling) -> Draw:
        """Prepare for shards; called once a process, when the engine is open. Models of its own may be loaded here."""
