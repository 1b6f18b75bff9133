"""Opening a session: the start policy, its trainer state, the optimizer, and the checkpoint of a run cut short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from stages.core.errors import InputError, UsageError
from stages.core.registry import load
from stages.core.stage import Context, ShardWriter
from stages.models.load import Policy
from stages.models.policy_ref import PolicyRef
from stages.models.warm import POLICY
from stages.train.checkpoints import TRAINER_STATE, Checkpoints, Position, TrainerState, read_state, state_folder
from stages.train.config import TrainConfig, vision_frozen
from stages.train.drift.monitor import Watch
from stages.train.lora import Adapters
from stages.train.objectives.base import Objective
from stages.train.optim import set_frozen
from stages.train.parallel import ranks
from stages.train.parallel.kept import taken
from stages.train.parallel.layout import Layout
from stages.train.parallel.whole import layout_of
from stages.train.run_log import RunLog
from stages.train.session import Session
from stages.train.tracking.trackers import Trackers, open_trackers


def open_session(ctx: Context, writer: ShardWriter, ref: PolicyRef) -> Session:
    """Load the policy and its trainer state, or the checkpoint that a killed run left in scratch."""
    config: TrainConfig = ctx.config.resolved()
    objective: Objective = load("objective", config.objective)
    layout = layout_of(config)
    # An engine that sampled in this process holds most of a GPU.
    ctx.resources.sleep()
    if config.lora.rank and not layout.takes_adapters:
        raise UsageError(
            f"LoRA with --parallel {config.parallel}: adapters are not sharded", "--parallel fsdp2, or --parallel ddp"
        )
    policy, parent = _warm_or_load(ctx, ref, objective, layout)
    start, moments = _carried(config, parent)
    # Before the adapters: they go to layers that are to be trained, and then freeze all else.
    set_frozen(policy.model, vision_frozen(config), config.freeze_language)
    # Before the checkpoint's weights: adapters are parameters of their own, and the checkpoint has their values.
    adapters = None
    if config.lora.rank:
        adapters = Adapters(policy.model, config.lora, config.seed, moments)
        layout.lay_out_adapters(policy.model, policy.device)
    # A lineage that begins here has no baseline in its parent: that was another objective, or the optimizer is fresh.
    log = RunLog(
        Watch.after(config.watch, ref.run if start.step else None), objective.watched, Trackers(ctx.progress.log)
    )
    checkpoints = Checkpoints(ctx.scratch)
    if (moment := checkpoints.last()) is not None:
        found = checkpoints.stored if layout.sharded else checkpoints.tensors
        layout.put_weights(policy.model, found(moment, "model"))
        moments = found(moment, "optimizer")
        log.restore(moment.record)
        ctx.progress.log(f"going on after step {len(log.rows)} of a run that was cut short")
    # Last: it takes the parameters that get gradients, adapters among them, as the checkpoint left them.
    optimizer = layout.optimizer(policy.model, config, moments)
    if ranks.rank() == 0:
        log.keep_live(ctx.scratch)
        if config.report_to:
            log.trackers = open_trackers(ctx, writer.run, ref.run, log.rows)
    return Session(config, ctx, writer, policy, optimizer, start, log, checkpoints, moment, layout, adapters)


def _warm_or_load(
    ctx: Context, ref: PolicyRef, objective: Objective, layout: Layout
) -> tuple[Policy, TrainerState | None]:
    """The start policy and its trainer state, as an earlier stage left them in memory or else from disk.

    The warm policy is taken away from the others: it is about to change.
    """
    config: TrainConfig = ctx.config
    if ranks.launched() and (kept := taken(ctx.resources, ref, config)) is not None:
        return replace(kept[0], ref=ref), kept[1]
    policy: Policy | None = None if objective.reward_model else ctx.resources.peek(POLICY, ref.id)
    state: TrainerState | None = ctx.resources.peek(TRAINER_STATE, ref.id)
    ctx.resources.drop(POLICY)
    ctx.resources.drop(TRAINER_STATE)
    if policy is None or not _is_as_loaded(policy, config):
        device = ranks.device_of_rank(config.device)
        ctx.progress.start(f"loading {ref.name}", None, "")
        with layout.constructing(device):
            policy = objective.load(
                ref,
                config,
                device="cpu" if layout.on_host else device,
                dtype=config.dtype,
                trust_remote_code=config.trust_remote_code,
            )
        # Where it is to be trained, although its weights lie on the CPU until then.
        if layout.on_host and device != "auto":
            policy = replace(policy, device=torch.device(device))
    policy = replace(policy, ref=ref)
    if state is None and (folder := state_folder(ref)) is not None:
        state = read_state(folder, layout.sharded)
    return policy, state


def _is_as_loaded(policy: Policy, config: TrainConfig) -> bool:
    """True when a warm policy is what `load_policy` would give."""
    device = config.device in ("auto", str(policy.device), policy.device.type)
    return device and str(policy.model.dtype) == f"torch.{config.dtype}"


def _carried(config: TrainConfig, parent: TrainerState | None) -> tuple[Position, Mapping[str, Tensor]]:
    """The position to go on from, and the optimizer's moments to start with."""
    fresh = Position(config.objective)
    if config.optimizer == "carry" and parent is None:
        raise InputError("optimizer = carry, and the policy has no trainer state", "use --set optimizer=auto")
    if parent is None or config.optimizer == "fresh":
        return fresh, {}
    if parent.position.objective == config.objective:
        return parent.position, parent.tensors
    # Another objective's steps are not steps of this one: a new position, the moments only where asked for.
    return fresh, parent.tensors if config.optimizer == "carry" else {}
