"""Turn by turn: the policy writes until it ends its turn, an environment answers, the policy goes on (our own design).

All completions of a shard go through the engine together, a turn at a time. What was sampled is kept as ids and goes on
from there: nothing is decoded and encoded again, and the noise is that of each token's place. An observation is
encoded alone and appended, `generated` false and log-prob 0.0. An environment that says nothing is plain sampling, to
the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from schemas.prompts import PromptRow
from schemas.rollouts import FinishReason, Sampling
from stages.core.config import build, key_of
from stages.core.errors import UsageError
from stages.core.registry import load, plugin_key
from stages.core.stage import Context
from stages.engines.base import Engine, SampledCompletion, SampleRequest
from stages.rollout.config import EnvironmentTable, RolloutConfig
from stages.rollout.environments.base import Action, Environment, EnvironmentPlugin, Turn
from stages.rollout.methods.base import Asked, Draw, DrawnCompletion, DrawnGroup, RolloutMethod
from stages.rollout.methods.stepping import StepFailed, observation_ids, step_in_time


class Turns(RolloutMethod):
    """Turns with an environment."""

    def __init__(self, config: RolloutConfig) -> None:
        self._table, self._stop = config.environment, config.stop

    @cached_property
    def _plugin(self) -> EnvironmentPlugin:
        plugin: EnvironmentPlugin = load("environment", self._table.name)
        return plugin

    @cached_property
    def _settings(self) -> Any:
        if self._plugin.settings is not None:
            return build(self._plugin.settings, self._table.options, "rollout.environment.options")
        if self._table.options:
            raise UsageError(
                f"[rollout.environment.options]: the environment {self._table.name!r} has no settings", "leave it out"
            )
        return None

    def key(self, ctx: Context) -> dict[str, Any]:
        """The environment's code, settings and what it reads."""
        own = {} if self._settings is None else key_of(self._settings)
        return {
            "environment": plugin_key("environment", self._table.name),
            "environment_settings": own,
            "environment_reads": self._plugin.identity(self._settings),
        }

    def longest(self, sampling: Sampling) -> int:
        """Everything generated, and an observation a turn; `max_total_tokens` where that is given."""
        return self._table.max_total_tokens or sampling.max_new_tokens + self._table.max_turns * (
            self._table.max_observation
        )

    def open(self, ctx: Context, engine: Engine, sampling: Sampling) -> Draw:
        """The environment opened; UsageError for an engine without a tokenizer, and where one text ends both."""
        environment = self._plugin.open(self._settings, ctx.resources)
        engine.text_ids("")
        texts = list(dict.fromkeys([*environment.stop, *self._stop]))
        turn = replace(sampling, stop=texts)
        return _Loop(engine, environment, self._table, turn, self.longest(sampling)).draw


@dataclass(slots=True)
class _Unfinished:
    """A completion on its way."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    generated: list[bool] = field(default_factory=list)
    observed: list[tuple[int, int]] = field(default_factory=list)
    turns: tuple[Turn, ...] = ()
    ended: DrawnCompletion | None = None

    def append(self, ids: list[int], logprobs: list[float], generated: bool) -> None:
        self.ids = self.ids + ids
        self.logprobs = self.logprobs + logprobs
        self.generated = self.generated + [generated] * len(ids)

    def end(self, reason: FinishReason, stopped_by: str | None = None) -> None:
        marks = None if all(self.generated) else self.generated
        self.ended = DrawnCompletion(
            self.ids, self.logprobs, reason, stopped_by=stopped_by, generated=marks, observed=self.observed
        )


@dataclass(frozen=True, slots=True)
class _Loop:
    """Turns of a shard's completions with one engine and one environment."""

    engine: Engine
    environment: Environment
    table: EnvironmentTable
    sampling: Sampling
    """The policy's turn: ended by the environment's texts as well as the run's own."""
    longest: int

    def draw(self, asked: Sequence[Asked]) -> Iterator[DrawnGroup]:
        """Groups, as soon as all completions of one have ended."""
        going = [(one, [_Unfinished() for _ in range(one.request.n)]) for one in asked]
        for number in range(1, self.table.max_turns + 1):
            groups = {one.request.id: (one, completions) for one, completions in going}
            for ident, samples in self.engine.sample([self._request(*pair, number) for pair in going], self.sampling):
                one, completions = groups[ident]
                for completion, sampled in zip(completions, samples, strict=True):
                    if completion.ended is None:
                        self._after(one.prompt, completion, sampled, last=number == self.table.max_turns)
                if all(c.ended is not None for c in completions):
                    yield DrawnGroup(ident, [c.ended for c in completions if c.ended is not None])
            going = [(one, cs) for one, cs in going if any(c.ended is None for c in cs)]
            if not going:
                return

    def _request(self, asked: Asked, completions: list[_Unfinished], number: int) -> SampleRequest:
        if number == 1 and self.sampling.max_new_tokens <= self.longest:
            return asked.request
        # What has ended is asked for nothing more: its place in the group is its noise, so it stays there.
        left = [0 if c.ended is not None else self._left(c) for c in completions]
        return replace(asked.request, prefix_ids=[c.ids for c in completions], limits=left)

    def _left(self, completion: _Unfinished) -> int:
        new = self.sampling.max_new_tokens - sum(completion.generated)
        return max(0, min(new, self.longest - len(completion.ids)))

    def _after(self, prompt: PromptRow, completion: _Unfinished, sampled: SampledCompletion, last: bool) -> None:
        """The turn is over: the completion ends, or has its observation."""
        if sampled.finish_reason == FinishReason.ERROR:
            completion.ended = DrawnCompletion.failed(sampled.error or "the engine failed")
            return
        completion.append(sampled.token_ids, sampled.logprobs, True)
        if sampled.stopped_by not in self.environment.stop:
            completion.end(sampled.finish_reason, sampled.stopped_by)
            return
        try:
            self._answer(prompt, completion, self.engine.decode(sampled.token_ids), sampled.stopped_by, last)
        except StepFailed as failure:
            completion.ended = DrawnCompletion.failed(str(failure))

    def _answer(
        self, prompt: PromptRow, completion: _Unfinished, text: str, stopped_by: str | None, last: bool
    ) -> None:
        observation = step_in_time(self.environment, prompt, Action(text, completion.turns), self.table.time_limit_s)
        if observation.done:
            completion.end(FinishReason.STOP, stopped_by)
            return
        ids = observation_ids(self.engine, observation, self.table.max_observation)
        completion.turns += (Turn(text, observation.text),)
        # An observation that nothing can follow would only be read.
        if last or len(completion.ids) + len(ids) >= self.longest or self._left(completion) == 0:
            completion.end(FinishReason.LENGTH)
            return
        if ids:
            completion.observed = [*completion.observed, (len(completion.ids), len(completion.ids) + len(ids))]
            completion.append(ids, [0.0] * len(ids), False)
