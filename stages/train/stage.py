"""train: prompts or scored groups in, a policy and one row an optimizer step out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.tables import PROMPTS, SCORED, STEPS, Table
from stages.core.config import key_of
from stages.core.errors import InputError, UsageError
from stages.core.registry import load
from stages.core.runner import accepts
from stages.core.runs.folder import RunFolder
from stages.core.stage import Context, Plan, ShardWriter, Stage, Work
from stages.models.policy_ref import PolicyRef, resolve_policy
from stages.train.config import REWARD, RL, SFT, VERIFIER, TrainConfig
from stages.train.drift.monitor import check as check_watch
from stages.train.drift.monitor import heed_run
from stages.train.parallel.launch import check as check_parallel

_CALLED = {SFT: "SFT", RL: "RL", VERIFIER: "a verifier", REWARD: "a reward model"}


class TrainStage(Stage):
    """One shard: a training run is one piece of work, made resumable by checkpoints in its scratch folder."""

    name = "train"
    version = 1
    table = STEPS
    reads: tuple[Table, ...] = (SCORED, PROMPTS)
    config = TrainConfig

    def plan(self, ctx: Context) -> Plan:
        """Check that the inputs fit the objective, and find the policy."""
        config: TrainConfig = ctx.config
        _check_inputs(self, ctx.inputs, config)
        check_watch(config.watch)
        check_parallel(config)
        ref = start_policy(ctx)
        key: dict[str, Any] = {"policy": ref.id}
        if config.lora.rank:
            key["lora"] = key_of(config.lora)
        if config.objective == RL:
            key |= _objective_key(config.resolved())
            if config.ref_kl > 0.0:
                if config.ref_policy is None:
                    raise UsageError("ref_kl is set and ref_policy is not", "--set ref_policy=POLICY")
                key["ref_policy"] = resolve_policy(config.ref_policy).id
        if config.objective == VERIFIER:
            key["verifier"] = _verifier_key(config)
        if config.objective == REWARD:
            key["reward"] = key_of(config.reward)
        shard = {"objective": config.objective, "inputs": [f.fingerprint for f in ctx.inputs]}
        return Plan([shard], key, provenance={"policy": ref.spec, "policy_id": ref.id, "policy_name": ref.name})

    def open(self, ctx: Context) -> Work:
        """Training itself; the model is loaded when the shard is begun."""

        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            from stages.train.parallel.followers import LEADER

            with LEADER.work(ctx, shard):
                train(ctx, shard, writer)

        return work

    def deliver(self, config: TrainConfig, path: Path) -> None:
        """The watch's verdict on a finished run, cached or not: CosmoError where it is to stop what follows."""
        heed_run(config.watch, path)


def train(ctx: Context, shard: dict[str, Any], writer: ShardWriter) -> None:
    """One run, from loading its policy to saving what became of it; the same in every rank."""
    from stages.train.trainer_isolation import quiet_imports

    quiet_imports()
    from stages.train.parallel.stop import listening
    from stages.train.session import Session

    objective = shard["objective"]
    with listening():
        session = Session.open(ctx, writer, start_policy(ctx))
        if objective == RL:
            from stages.train.rl.trainer import train_rl as learn
        elif objective == VERIFIER:
            from stages.train.objectives.verifier import train_verifier as learn
        elif objective == REWARD:
            from stages.train.objectives.reward import train_reward as learn
        else:
            from stages.train.objectives.sft import train_sft as learn
        learn(session)


def _objective_key(config: TrainConfig) -> dict[str, Any]:
    """The loss and the advantage by version, with the settings that were left to the loss or are for one of them."""
    loss, advantage = load("loss", config.loss), load("advantage", str(config.advantage))
    own = {"loss": config.loss_settings().own, "advantage": config.advantage_settings()}
    return {
        "loss": [config.loss, loss.version, key_of(own["loss"]) if own["loss"] else {}],
        "advantage": [config.advantage, advantage.version, key_of(own["advantage"]) if own["advantage"] else {}],
        "aggregation": config.aggregation,
        "clip": [config.clip_low, config.clip_high] if config.clip else None,
    }


def start_policy(ctx: Context) -> PolicyRef:
    """The policy that was asked for; for RL, when none was, the one that sampled all the groups."""
    config: TrainConfig = ctx.config
    if config.policy:
        return resolve_policy(config.policy)
    if config.objective != RL:
        raise UsageError(
            f"{_CALLED[config.objective]} was given no policy to start from",
            "add --policy, for example --policy tiny:qwen2_5_vl",
        )
    specs = {_sampled_by(folder) for folder in ctx.inputs}
    if len(specs) > 1 or None in specs:
        named = ", ".join(sorted(s for s in specs if s)) or "unknown"
        raise UsageError(f"which policy sampled these groups is not clear: {named}", "add --policy")
    return resolve_policy(str(specs.pop()))


def _sampled_by(folder: RunFolder) -> str | None:
    """The policy spec that the rollout behind a folder of groups recorded."""
    if folder.stage == "rollout":
        # An engine without a model says "none".
        spec = str(folder.manifest["provenance"].get("policy", "none"))
        return None if spec == "none" else spec
    found = {_sampled_by(upstream) for upstream in folder.upstream()}
    return found.pop() if len(found) == 1 else None


def _verifier_key(config: TrainConfig) -> dict[str, Any]:
    """What the verifier learns, with the words of its prompt."""
    from stages.judging.prompt import load_prompt

    options = config.verifier
    if not options.name:
        raise UsageError("whose verdicts the verifier is to learn is not said", "--set verifier.name=safety")
    return {**key_of(options), "prompt": load_prompt(options.asked).digest}


def _check_inputs(stage: TrainStage, inputs: list[RunFolder], config: TrainConfig) -> None:
    for folder in inputs:
        if config.objective != SFT and accepts(stage, folder) is not SCORED:
            raise InputError(
                f"{folder.where} holds {folder.table}, and {_CALLED[config.objective]} learns from scored groups",
                f"cosmo score {folder.where}, or --objective sft",
            )


STAGE = TrainStage()
