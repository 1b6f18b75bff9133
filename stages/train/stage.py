"""train: prompts or scored groups in, a policy and one row an optimizer step out."""

from __future__ import annotations

from typing import Any

from schemas.tables import PROMPTS, SCORED, STEPS, Table
from stages.core.errors import InputError, UsageError
from stages.core.folder import RunFolder
from stages.core.registry import load
from stages.core.runner import accepts
from stages.core.stage import Context, Plan, ShardWriter, Work
from stages.models.identity import PolicyRef, resolve_policy
from stages.train.config import RL, TrainConfig


class TrainStage:
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
        ref = start_policy(ctx)
        key: dict[str, Any] = {"policy": ref.id}
        if config.objective == RL:
            key["loss"] = [config.loss, load("loss", config.loss).version]
            key["advantage"] = [config.advantage, load("advantage", config.advantage).version]
            if config.ref_kl > 0.0:
                if config.ref_policy is None:
                    raise UsageError("ref_kl is set and ref_policy is not", "--set ref_policy=POLICY")
                key["ref_policy"] = resolve_policy(config.ref_policy).id
        shard = {"objective": config.objective, "inputs": [f.fingerprint for f in ctx.inputs]}
        return Plan([shard], key, provenance={"policy": ref.spec, "policy_id": ref.id, "policy_name": ref.name})

    def open(self, ctx: Context) -> Work:
        """Training itself; the model is loaded when the shard is begun."""

        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            from stages.train.quiet import quiet_imports

            quiet_imports()
            from stages.train.session import Session

            session = Session.open(ctx, writer, start_policy(ctx))
            if shard["objective"] == RL:
                from stages.train.rl import train_rl

                train_rl(session)
            else:
                from stages.train.sft import train_sft

                train_sft(session)

        return work


def start_policy(ctx: Context) -> PolicyRef:
    """The policy that was asked for; for RL, when none was, the one that sampled all the groups."""
    config: TrainConfig = ctx.config
    if config.policy:
        return resolve_policy(config.policy)
    if config.objective != RL:
        raise UsageError("SFT was given no policy to start from", "add --policy, for example --policy tiny:qwen2_5_vl")
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


def _check_inputs(stage: TrainStage, inputs: list[RunFolder], config: TrainConfig) -> None:
    for folder in inputs:
        if config.objective == RL and accepts(stage, folder) is not SCORED:
            raise InputError(
                f"{folder.path} holds {folder.table}, and RL learns from scored groups",
                f"cosmo score {folder.path}, or --objective sft",
            )


STAGE = TrainStage()
