"""One training run in hand: policy, optimizer, position, rows, and how it goes on after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schemas.arrow import from_record
from schemas.steps import StepRow
from stages.core.errors import CosmoError, InputError, UnavailableError
from stages.core.stage import Context, ShardWriter
from stages.models.identity import PolicyRef, folder_id
from stages.models.load import Policy, load_policy, load_reward_model, save_policy
from stages.train.config import REWARD, RL, TrainConfig
from stages.train.lora import Adapters
from stages.train.optim import make_optimizer, make_scheduler, optimizer_state, set_frozen
from stages.train.state import (
    Checkpoints,
    Moment,
    Position,
    TrainerState,
    read_state,
    state_folder,
    write_state,
)
from stages.train.watch import FILE as WATCH_FILE
from stages.train.watch import Watch, heed


@dataclass(slots=True)
class Session:
    """Everything that changes while a policy is trained."""

    config: TrainConfig
    ctx: Context
    writer: ShardWriter
    policy: Policy
    optimizer: torch.optim.AdamW
    start: Position
    """Where the lineage stood before this run."""
    rows: list[StepRow]
    """What has been recorded so far, one an optimizer step."""
    rejected: dict[tuple[str, str, str], str]
    """The samples left out so far, in order, each once: detail by (source, ref, reason)."""
    checkpoints: Checkpoints
    resumed: Moment | None
    """The checkpoint this run goes on from; None once its objective is past it."""
    watch: Watch
    """The lineage's last steps and its drift alarms."""
    adapters: Adapters | None = None
    """What is trained in place of whole weights, where LoRA is asked for."""
    extra_state: Callable[[], tuple[dict[str, Tensor], dict[str, Any]]] = lambda: ({}, {})
    """More tensors and facts that an objective wants in a checkpoint."""

    @classmethod
    def open(cls, ctx: Context, writer: ShardWriter, ref: PolicyRef) -> Session:
        """Load the policy and its trainer state, or the checkpoint that a killed run left in scratch."""
        config: TrainConfig = ctx.config.settled()
        policy, parent = _warm_or_load(ctx, ref, config.objective == REWARD)
        start, moments = _carried(config, parent)
        set_frozen(policy.model, config.vision_frozen)
        adapters = Adapters(policy.model, config.lora, config.seed, moments) if config.lora.rank else None
        checkpoints = Checkpoints(ctx.scratch)
        watch = Watch.after(config.watch, ref.run if start.step else None)
        rows, rejected, moment = [], {}, checkpoints.last()
        if moment is not None:
            _put_weights(policy.model, checkpoints.tensors(moment, "model"))
            moments = checkpoints.tensors(moment, "optimizer")
            rows = [from_record(StepRow, r) for r in moment.record["rows"]]
            rejected = {(r[0], r[1], r[2]): r[3] for r in moment.record["rejected"]}
            watch = Watch.from_record(config.watch, moment.record["watch"])
            ctx.progress.log(f"going on after step {len(rows)} of a run that was cut short")
        optimizer = make_optimizer(policy.model, config, moments)
        return cls(config, ctx, writer, policy, optimizer, start, rows, rejected, checkpoints, moment, watch, adapters)

    @property
    def step(self) -> int:
        """Optimizer steps of the lineage so far."""
        return self.start.step + len(self.rows)

    def begin(self, examples: int) -> tuple[range, int]:
        """Open the progress of a run over a fixed order; (the positions still to do, all steps)."""
        steps = -(-examples // self.config.batch_size)
        self.ctx.progress.start("train", steps, "step")
        if self.rows:
            self.ctx.progress.advance(len(self.rows))
        return range(len(self.rows) * self.config.batch_size, examples), steps

    def arguments(self, **more: Any) -> dict[str, Any]:
        """TrainingArguments that both objectives share: no files, reports or saves, a record every step."""
        c, device = self.config, self.policy.device
        if device.type == "cuda" and torch.cuda.device_count() > 1 and not torch.distributed.is_initialized():
            raise UnavailableError("one process, several GPUs: training uses one", "set CUDA_VISIBLE_DEVICES=0")
        autocast = c.autocast == "bf16" or (c.autocast == "auto" and device.type == "cuda")
        return {
            "output_dir": str(self.ctx.scratch),
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "steps",
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "disable_tqdm": True,
            "log_level": "error",
            "use_cpu": device.type == "cpu",
            "bf16": autocast,
            "max_grad_norm": c.max_grad_norm,
            "gradient_checkpointing": c.gradient_checkpointing,
            "dataloader_pin_memory": device.type == "cuda",
            "remove_unused_columns": False,
        } | more

    def scheduler(self, total: int) -> torch.optim.lr_scheduler.LambdaLR:
        """The rate schedule from the present step on; `total` steps long, 0 for constant after warm-up."""
        return make_scheduler(self.optimizer, self.config, self.step, total)

    def reject(self, source: str, ref: str, reason: str, detail: str) -> None:
        """Leave a sample out, once, however often it comes up."""
        self.rejected.setdefault((source, ref, reason), detail)

    def record(self, row: StepRow) -> None:
        """Keep a finished step's row, and now and then a checkpoint."""
        if not (math.isfinite(row.loss) and math.isfinite(row.grad_norm or 0.0)):
            raise CosmoError(
                f"step {row.step}: loss {row.loss}, gradient norm {row.grad_norm}: training has diverged",
                "lower --learning-rate",
            )
        self.rows.append(self.watch.judge(row, self.ctx.progress.log))
        numbers = {"loss": row.loss} | ({"reward": row.reward_mean} if row.reward_mean is not None else {})
        self.ctx.progress.advance(1, **numbers)
        if self.config.checkpoint_steps and len(self.rows) % self.config.checkpoint_steps == 0:
            self._checkpoint()

    def heed(self) -> None:
        """Between rollouts: end the run on an alarm that is to end it, in a state that the next call goes on from."""
        try:
            heed(self.config.watch, self.watch.events)
        except CosmoError:
            self._checkpoint()
            raise

    def _checkpoint(self) -> None:
        tensors, facts = self.extra_state()
        record = {
            "rows": [asdict(r) for r in self.rows],
            "rejected": [[*k, v] for k, v in self.rejected.items()],
            "watch": self.watch.record(),
            **facts,
        }
        model, optimizer = _weights(self.policy.model), optimizer_state(self.policy.model, self.optimizer)
        self.checkpoints.save(len(self.rows), {"model": model, "optimizer": optimizer, "extra": tensors}, record)

    def finish(self, rollouts: int, carried: dict[str, float] | None = None) -> None:
        """Write rows, rejected samples, policy, trainer state and scalars; leave policy and state warm."""
        from stages.train.metrics import write_tensorboard

        model = self.policy.model
        for row in self.rows:
            self.writer.row(row)
        for (source, ref, reason), detail in self.rejected.items():
            self.writer.reject(source, ref, reason, detail)
        tensors = optimizer_state(model, self.optimizer)
        if self.adapters:
            tensors |= self.adapters.state()
            self.adapters.merge()
        folder = self.writer.artifact("policy")
        save_policy(model, self.policy.processor, folder)
        position = Position(self.config.objective, self.step, self.start.rollouts + rollouts, carried or {})
        state = TrainerState(position, tensors)
        write_state(state, self.writer.artifact("trainer"))
        if self.config.objective == RL:
            self.watch.write(self.writer.artifact(WATCH_FILE))
        write_tensorboard(self.rows, self.writer.artifact("tensorboard"))
        # Nobody samples from a reward model.
        if self.config.objective != REWARD:
            self._keep_warm(folder, state)

    def _keep_warm(self, folder: Path, state: TrainerState) -> None:
        model = self.policy.model
        model.zero_grad(set_to_none=True)
        model.requires_grad_(True)
        model.eval()
        new_id = folder_id(folder)
        ref = replace(self.policy.ref, spec="", id=new_id, run=None, name=new_id)
        self.ctx.resources.put("trainer_state", new_id, state)
        # A GPU's sampler wants bfloat16 where training keeps float32: it must not find these weights instead.
        if self.policy.device.type == "cpu" and model.dtype == torch.float32:
            self.ctx.resources.put("policy", new_id, replace(self.policy, ref=ref))


def _warm_or_load(ctx: Context, ref: PolicyRef, reward: bool) -> tuple[Policy, TrainerState | None]:
    """The start policy and its trainer state, as an earlier stage left them in memory or else from disk.

    The warm policy is taken away from the others: it is about to change.
    """
    config: TrainConfig = ctx.config
    policy: Policy | None = None if reward else ctx.resources.peek("policy", ref.id)
    state: TrainerState | None = ctx.resources.peek("trainer_state", ref.id)
    ctx.resources.drop("policy")
    ctx.resources.drop("trainer_state")
    if policy is None or not _fits(policy, config):
        load = load_reward_model if reward else load_policy
        policy = load(ref, device=config.device, dtype=config.dtype, trust_remote_code=config.trust_remote_code)
    policy = replace(policy, ref=ref)
    if state is None and (folder := state_folder(ref)) is not None:
        state = read_state(folder)
    return policy, state


def _fits(policy: Policy, config: TrainConfig) -> bool:
    """True when a warm policy is what `load_policy` would give."""
    device = config.device in ("auto", str(policy.device), policy.device.type)
    return device and str(policy.model.dtype) == f"torch.{config.dtype}"


def _carried(config: TrainConfig, parent: TrainerState | None) -> tuple[Position, dict[str, Tensor]]:
    """The position to go on from, and the optimizer's moments to start with."""
    fresh = Position(config.objective)
    if config.optimizer == "carry" and parent is None:
        raise InputError("optimizer = carry, and the policy has no trainer state", "use --set optimizer=auto")
    if parent is None or config.optimizer == "fresh":
        return fresh, {}
    if parent.position.objective == config.objective:
        return parent.position, parent.tensors
    return fresh, parent.tensors if config.optimizer == "carry" else {}


def _weights(model: Any) -> dict[str, Tensor]:
    """Parameters by name, tied ones once, and the buffers that are saved with a model."""
    buffers = {n: b for n, b in model.state_dict().items() if n in dict(model.named_buffers())}
    return {n: p.detach().cpu() for n, p in model.named_parameters()} | {n: b.cpu() for n, b in buffers.items()}


def _put_weights(model: Any, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        held = dict(model.named_parameters()) | dict(model.named_buffers())
        for name, value in weights.items():
            held[name].copy_(value)
