"""cosmo rollout: prompts in, groups of sampled completions out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.rejected import RejectedRow
from schemas.rollouts import Sampling
from schemas.tables import PROMPTS, ROLLOUTS
from stages.core.errors import UsageError
from stages.core.registry import load, plugin_key
from stages.core.resources import Kind
from stages.core.runs.folder import RunFolder
from stages.core.runs.select import Entry, index, select
from stages.core.stage import Context, Plan, Quality, Stage, Work, chunks
from stages.engines.base import Engine, EngineSettings, engine_name
from stages.models.warm import TRAINED
from stages.rollout.adaptive_weights import adapted
from stages.rollout.config import RolloutConfig
from stages.rollout.groups import GroupMaker
from stages.rollout.methods.choose import chosen_method
from stages.rollout.quality import rollout_quality
from stages.rollout.refill import refilled

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
        ref = _policy(ctx, plugin.needs_policy)
        selection, adapted_key = adapted(config.select, ctx.before)
        wanted, refill_key = refilled(config.select, ctx.before)
        # By content: where the policy lies, and what it is called, is no part of what is sampled.
        key = {
            "engine": plugin_key("engine", engine),
            "policy": ref.id if ref else NO_POLICY,
            **adapted_key,
            **refill_key,
            **chosen_method(config).key(ctx),
        }
        provenance = {"policy": ref.spec if ref else NO_POLICY, "policy_name": ref.name if ref else NO_POLICY}
        if ctx.before is not None:
            # The same draw of the same prompts. Another number of them, or other weights, are in the key.
            return Plan(ctx.before.shards, key, provenance=provenance)
        drawn = select(index(ctx.inputs, ctx.resources), selection, moving=bool(adapted_key))
        chosen, repeated = _distinct(drawn[:wanted])
        # A worker has work where there is a shard for it.
        each = -(-len(chosen) // ctx.workers)
        cut = _shards(chosen, each) if 0 < each < config.shard_groups else []
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
        shards = _shards(chosen, config.shard_groups)
        return Plan(shards, key, rejected, {**provenance, "groups": len(chosen)}, cut)

    def open(self, ctx: Context) -> Work:
        """Load the engine, or find it warm."""
        config: RolloutConfig = ctx.config
        plugin = load("engine", engine_name(config.engine))
        ref = _policy(ctx, plugin.needs_policy)
        if ref is not None:
            # Until there is something to count.
            ctx.progress.start(f"loading {ref.name}", None, "")
        engine: Engine = plugin.open(ref, _settings(config), ctx.resources)
        if (notice := engine.notice()) is not None and ctx.resources.peek(NOTICE, notice) is None:
            # A recipe opens an engine at every turn, and the line says nothing new then.
            ctx.resources.put(NOTICE, notice, notice)
            ctx.progress.log(notice)
        policy_id = ref.id if ref else NO_POLICY
        return GroupMaker(ctx, engine, policy_id, _sampling(config), chosen_method(config)).work

    def gpus(self, config: RolloutConfig) -> int:
        """GPUs that one worker takes where there are any: its engine's."""
        gpus: int = load("engine", engine_name(config.engine)).gpus(_settings(config))
        return gpus

    def quality(self, folder: RunFolder) -> Quality:
        """Completions, those that failed and why, their length, and how fast they were sampled."""
        return rollout_quality(folder)


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


def _policy(ctx: Context, needed: bool) -> PolicyRef | None:
    from stages.models.policy_ref import resolve_policy

    spec: str = ctx.config.policy
    # The run that has just made it may be on its way to the disk still: it is known by content all the same.
    if (trained := ctx.resources.peek(TRAINED, spec)) is not None:
        return trained
    return resolve_policy(spec) if spec or needed else None


def _shards(entries: list[Entry], groups: int) -> list[dict[str, Any]]:
    """The prompts in shards of so many, in order."""
    return [{"entries": [[e.folder, e.shard, e.row, e.id] for e in part]} for part in chunks(entries, groups)]


def _distinct(entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """First occurrences, and the rest."""
    first: dict[str, Entry] = {}
    repeated = []
    for entry in entries:
        if first.setdefault(entry.id, entry) is not entry:
            repeated.append(entry)
    return list(first.values()), repeated


STAGE = RolloutStage()
