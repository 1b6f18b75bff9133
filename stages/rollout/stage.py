"""cosmo rollout: prompts in, groups of sampled completions out."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from schemas.prompts import PromptRow
from schemas.rejected import RejectedRow
from schemas.rollouts import Completion, FinishReason, RolloutGroup, Sampling
from schemas.tables import PROMPTS, ROLLOUTS
from stages.core.errors import BadSample, CosmoError, InputError, UsageError
from stages.core.registry import load, plugin_key
from stages.core.resources import Kind
from stages.core.runs.folder import RunFolder
from stages.core.runs.select import Entry, index, select
from stages.core.stage import Context, Plan, Quality, ShardWriter, Stage, Work, chunks
from stages.engines.base import Engine, EngineSettings, SampledCompletion, SampleRequest, engine_name
from stages.rollout.adaptive_weights import adapted
from stages.rollout.config import RolloutConfig
from stages.rollout.quality import FAILED_HINT, rollout_quality, why_failed

if TYPE_CHECKING:
    from stages.models.policy_ref import PolicyRef

# The policy's name in rows where an engine needs none.
NO_POLICY = "none"
NOTICE: Kind[str] = Kind("rollout.notice")
"""What an engine had to say that was printed already."""


class RolloutStage(Stage):
    """Samples G completions a prompt from a policy."""

    name = "rollout"
    version = 2
    table = ROLLOUTS
    reads = (PROMPTS,)
    config = RolloutConfig

    def plan(self, ctx: Context) -> Plan:
        """Choose the prompts and name the policy by content. Loads no model."""
        config: RolloutConfig = ctx.config
        _check_sampling(config)
        engine = engine_name(config.engine)
        plugin = load("engine", engine)
        ref = _policy(config, plugin.needs_policy)
        selection, adapted_key = adapted(config.select)
        chosen, repeated = _distinct(select(index(ctx.inputs, ctx.resources), selection, moving=bool(adapted_key)))
        shards = [
            {"entries": [[e.folder, e.shard, e.row, e.id] for e in part]}
            for part in chunks(chosen, config.shard_groups)
        ]
        # By content: where the policy lies, and what it is called, is no part of what is sampled.
        key = {"engine": plugin_key("engine", engine), "policy": ref.id if ref else NO_POLICY, **adapted_key}
        rejected = [
            RejectedRow(
                stage=self.name,
                source=ctx.inputs[e.folder].path.name,
                ref=e.id,
                reason="duplicate",
                detail=f"row {e.row} of shard {e.shard} repeats a prompt that was chosen already",
            )
            for e in repeated
        ]
        provenance = {"policy": ref.spec if ref else NO_POLICY, "policy_name": ref.name if ref else NO_POLICY}
        return Plan(shards, key, rejected, {**provenance, "groups": len(chosen)})

    def open(self, ctx: Context) -> Work:
        """Load the engine, or find it warm."""
        config: RolloutConfig = ctx.config
        plugin = load("engine", engine_name(config.engine))
        ref = _policy(config, plugin.needs_policy)
        engine: Engine = plugin.open(ref, _settings(config), ctx.resources)
        if (notice := engine.notice()) is not None and ctx.resources.peek(NOTICE, notice) is None:
            # A recipe opens an engine at every turn, and the line says nothing new then.
            ctx.resources.put(NOTICE, notice, notice)
            ctx.progress.log(notice)
        sampler = _Sampler(ctx, engine, ref.id if ref else NO_POLICY)
        return sampler.work

    def gpus(self, config: RolloutConfig) -> int:
        """GPUs that one worker takes where there are any: its engine's."""
        gpus: int = load("engine", engine_name(config.engine)).gpus(_settings(config))
        return gpus

    def quality(self, folder: RunFolder) -> Quality:
        """Completions, those that failed and why, their length, and how fast they were sampled."""
        return rollout_quality(folder)


class _Sampler:
    """The work of one shard after another with one engine."""

    def __init__(self, ctx: Context, engine: Engine, policy_id: str) -> None:
        self._ctx, self._engine, self._policy_id = ctx, engine, policy_id
        self._sampling = _sampling(ctx.config)

    def work(self, shard: dict[str, Any], writer: ShardWriter) -> None:
        """Sample a shard's prompts; rows come out in the plan's order."""
        from stages.rollout.prompts import fetch

        prompts, requests = [], []
        for (folder, _, _), prompt in fetch(self._ctx.inputs, (tuple(e) for e in shard["entries"])):
            try:
                # First, for it raises where the prompt can't be used: both lists go on side by side.
                requests.append(self._request(prompt))
                prompts.append(prompt)
            except BadSample as bad:
                writer.reject(self._ctx.inputs[folder].path.name, prompt.id, bad.reason, bad.detail)
        waiting = deque(zip(prompts, requests, strict=True))
        ready: dict[str, list[Completion]] = {}
        # Engines end prompts in an order of their own; a shard's rows have the plan's, and go as soon as it is their
        # turn.
        for ident, completions in self._completions(requests):
            ready[ident] = completions
            while waiting and waiting[0][0].id in ready:
                prompt, request = waiting.popleft()
                writer.row(self._group(prompt, request, ready.pop(prompt.id)))
        if waiting:
            raise CosmoError(f"the engine gave no completion of the prompt {waiting[0][0].id}", "see Engine.sample")

    def _request(self, prompt: PromptRow) -> SampleRequest:
        encoded = self._engine.encode(prompt.messages, prompt.images)
        length, new = len(encoded.token_ids), self._sampling.max_new_tokens
        # Past its positions a model goes on and writes nonsense: better no row than that one.
        if length + new > self._engine.max_positions:
            raise BadSample(
                "too_long", f"{length} prompt tokens and {new} new ones exceed {self._engine.max_positions} positions"
            )
        return SampleRequest(
            prompt.id,
            encoded.token_ids,
            encoded.image_inputs,
            self._ctx.config.samples,
            prompt.messages,
            prompt.images,
        )

    def _completions(self, requests: list[SampleRequest]) -> Iterator[tuple[str, list[Completion]]]:
        """Completions by prompt id, as they get ready, with ids and log-probs as the shard will have them.

        InputError in the end when not one could be sampled: the shard stays undone, so that another try finds it so.
        """
        progress, started, tokens = self._ctx.progress, time.monotonic(), 0
        progress.start("rollout", len(requests), "groups")
        count, errors = 0, Counter[str]()
        for ident, samples in self._engine.sample(requests, self._sampling):
            count += len(samples)
            errors.update(one.error or "" for one in samples if one.finish_reason == FinishReason.ERROR)
            yield ident, [self._completion(number, one) for number, one in enumerate(samples)]
            tokens += sum(len(s.token_ids) for s in samples)
            progress.advance(1, tokens_per_second=round(tokens / max(time.monotonic() - started, 1e-9)))
        if count and errors.total() == count:
            raise InputError(f"no completion of {count} could be sampled: {why_failed(errors)}", FAILED_HINT)

    def _completion(self, number: int, sampled: SampledCompletion) -> Completion:
        from schemas.columns import packed_ids, packed_logprobs

        return Completion(
            index=number,
            text=self._engine.decode(sampled.token_ids),
            token_ids=packed_ids(sampled.token_ids),
            logprobs=packed_logprobs(sampled.logprobs),
            finish_reason=str(sampled.finish_reason),
            sampling=self._sampling,
            policy_id=self._policy_id,
            engine=self._engine.label,
            error=sampled.error,
            stopped_by=sampled.stopped_by,
        )

    def _group(self, prompt: PromptRow, request: SampleRequest, completions: list[Completion]) -> RolloutGroup:
        fields = {f.name: getattr(prompt, f.name) for f in dataclasses.fields(PromptRow)}
        return RolloutGroup(
            **fields,
            prompt_token_ids=request.token_ids,
            banned_token_ids=self._engine.banned_token_ids,
            completions=completions,
        )


def _settings(config: RolloutConfig) -> EngineSettings:
    return EngineSettings(
        config.device, config.dtype, config.batch_tokens, config.trust_remote_code, config.server, config.vllm
    )


def _sampling(config: RolloutConfig) -> Sampling:
    # Greedy takes the most likely token of all; a cut could only change its stored log-prob.
    greedy = config.temperature == 0
    return Sampling(
        temperature=config.temperature,
        top_p=1.0 if greedy else config.top_p,
        top_k=0 if greedy else config.top_k,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
        stop=config.stop,
    )


def _check_sampling(config: RolloutConfig) -> None:
    sampling = _sampling(config)
    if "" in sampling.stop:
        raise UsageError("rollout.stop holds an empty text, which would end every completion", "leave it out")
    if (sampling.top_p < 1 or sampling.top_k) and not config.allow_truncated_sampling:
        name = "top_p" if sampling.top_p < 1 else "top_k"
        raise UsageError(
            f"rollout.{name} = {getattr(sampling, name)}: a truncated sampler's log-probs are renormalised, "
            "which biases the ratio in training",
            "for evaluation only: add --set allow_truncated_sampling=true",
        )


def _policy(config: RolloutConfig, needed: bool) -> PolicyRef | None:
    from stages.models.policy_ref import resolve_policy

    return resolve_policy(config.policy) if config.policy or needed else None


def _distinct(entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """First occurrences, and the rest."""
    first: dict[str, Entry] = {}
    repeated = []
    for entry in entries:
        if first.setdefault(entry.id, entry) is not entry:
            repeated.append(entry)
    return list(first.values()), repeated


STAGE = RolloutStage()
