"""The work of a rollout's shards: prompts fetched and rendered, groups drawn by the run's method, rows in order."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from schemas.prompts import PromptRow
from schemas.rollouts import Completion, FinishReason, RolloutGroup, Sampling, Span
from stages.core.errors import BadSample, CosmoError
from stages.core.runs.halved import counted, keep_halved
from stages.core.stage import Context, ShardWriter
from stages.engines.base import Engine, SampleRequest
from stages.engines.system_turn import encoded_row
from stages.rollout.edited import begun
from stages.rollout.methods.base import Asked, DrawnCompletion, DrawnGroup, RolloutMethod
from stages.rollout.shown import Shown


class GroupMaker:
    """The work of one shard after another with one engine and one method."""

    def __init__(self, ctx: Context, engine: Engine, policy_id: str, sampling: Sampling, method: RolloutMethod) -> None:
        self._ctx, self._engine, self._policy_id = ctx, engine, policy_id
        self._sampling, self._method = sampling, method
        self._draw = method.open(ctx, engine, sampling)
        self._shown = Shown(ctx)
        engine.heard = self._shown.heard

    def work(self, shard: dict[str, Any], writer: ShardWriter) -> None:
        """Draw a shard's groups; rows come out in the plan's order."""
        from stages.rollout.prompts import fetch

        self._shown.begin()
        asked = []
        entries = (tuple(entry) for entry in shard["entries"])
        for (folder, _, _), prompt in fetch(self._ctx.inputs, entries, self._ctx.resources):
            try:
                asked.append(self._asked(prompt))
            except BadSample as bad:
                writer.reject(self._ctx.inputs[folder].path.name, prompt.id, bad.reason, bad.detail)
        waiting = deque(asked)
        ready: dict[str, DrawnGroup] = {}
        # Engines end prompts in an order of their own; a shard's rows have the plan's, and go as soon as it is their
        # turn.
        for group in self._drawn(asked):
            ready[group.id] = group
            while waiting and waiting[0].prompt.id in ready:
                one = waiting.popleft()
                self._write(writer, one, ready.pop(one.prompt.id))
        if waiting:
            raise CosmoError(f"the engine gave no completion of the prompt {waiting[0].prompt.id}", "see Engine.sample")
        if asked:
            keep_halved(self._engine.trouble(), writer.artifact, asked[0].prompt.id)

    def _asked(self, prompt: PromptRow) -> Asked:
        prompt, encoded = encoded_row(self._engine.encode, prompt, self._ctx.config.system_turn)
        request = SampleRequest(
            prompt.id,
            encoded.token_ids,
            encoded.image_inputs,
            self._ctx.config.samples,
            prompt.messages,
            prompt.images,
        )
        asked = Asked(prompt, request)
        new = self._method.longest(self._sampling)
        if prompt.edit is not None:
            if not self._method.goes_on:
                raise BadSample("edited", "this way of sampling begins every completion anew")
            asked = begun(asked, prompt.edit, self._engine, self._policy_id, self._sampling)
            new = asked.request.longest(new)
        # Past its positions a model goes on and writes nonsense: better no row than that one.
        if len(request.token_ids) + new > self._engine.max_positions:
            raise BadSample(
                "too_long",
                f"{len(request.token_ids)} prompt tokens and {new} new ones exceed {self._engine.max_positions}"
                " positions",
            )
        return asked

    def _drawn(self, asked: list[Asked]) -> Iterator[DrawnGroup]:
        """The shard's groups as they get ready.

        A CosmoError in the end when not one completion could be sampled: the shard stays undone, so that another try
        finds it so.
        """
        count, errors = 0, Counter[str]()
        for group in self._draw(asked):
            count += len(group.completions)
            errors.update(one.error or "" for one in group.completions if one.finish_reason == FinishReason.ERROR)
            yield group
            self._shown.group(group)
        if count and errors.total() == count:
            raise self._engine.none_sampled(f"no completion of {count} could be sampled: {counted(errors)}")

    def _write(self, writer: ShardWriter, asked: Asked, drawn: DrawnGroup) -> None:
        fields = {f.name: getattr(asked.prompt, f.name) for f in dataclasses.fields(PromptRow)}
        writer.row(
            RolloutGroup(
                **fields,
                prompt_token_ids=asked.request.token_ids,
                banned_token_ids=self._engine.banned_token_ids,
                completions=[self._completion(number, one) for number, one in enumerate(drawn.completions)],
            )
        )
        if self._method.table is not None:
            for row in drawn.rows:
                writer.further(self._method.table, row)

    def _completion(self, number: int, drawn: DrawnCompletion) -> Completion:
        from schemas.columns import packed_ids, packed_logprobs

        return Completion(
            index=number,
            text=self._engine.decode(drawn.token_ids),
            token_ids=packed_ids(drawn.token_ids),
            logprobs=packed_logprobs(drawn.logprobs),
            finish_reason=str(drawn.finish_reason),
            sampling=self._sampling,
            policy_id=self._policy_id,
            engine=self._engine.label,
            error=drawn.error,
            stopped_by=drawn.stopped_by,
            generated=drawn.generated,
            guided=drawn.guided,
            observed=[Span(self._characters(drawn, a), self._characters(drawn, b)) for a, b in drawn.observed],
        )

    def _characters(self, drawn: DrawnCompletion, ids: int) -> int:
        """How many characters of its text the first so many ids are."""
        return len(self._engine.decode(drawn.token_ids[:ids]))
