"""One training run in hand: policy, optimizer, position, rows, and how it goes on after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schemas.arrow import from_record
from schemas.steps import StepRow
from stages.core.errors import CosmoError, InputError, UnavailableError, UsageError
from stages.core.registry import load
from stages.core.stage import Context, ShardWriter
from stages.models.load import Policy, load_policy, load_reward_model, save_policy
from stages.models.policy_ref import PolicyRef, folder_id
from stages.models.warm import POLICY
from stages.train.checkpoints import (
    TRAINER_STATE,
    Checkpoints,
    Moment,
    Position,
    TrainerState,
    read_state,
    state_folder,
    write_state,
)
from stages.train.config import TrainConfig, autocasts, vision_frozen
from stages.train.drift.monitor import FILE as WATCH_FILE
from stages.train.drift.monitor import Watch, heed
from stages.train.lora import Adapters
from stages.train.optim import make_optimizer, make_scheduler, optimizer_state, set_frozen
from stages.train.parallel import ranks
from stages.train.parallel.layout import Layout, layout_of, put_weights
from stages.train.parallel.stop import STOP, StoppedError
from stages.train.trainer_isolation import contained


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
    layout: Layout
    """How the model lies on the ranks while it is trained."""
    adapters: Adapters | None = None
    """What is trained in place of whole weights, where LoRA is asked for."""
    stopping: bool = False
    """Some rank was asked to end the run."""
    extra_state: Callable[[], tuple[dict[str, Tensor], dict[str, Any]]] = lambda: ({}, {})
    """More tensors and facts that an objective wants in a checkpoint."""

    @classmethod
    def open(cls, ctx: Context, writer: ShardWriter, ref: PolicyRef) -> Session:
        """Load the policy and its trainer state, or the checkpoint that a killed run left in scratch."""
        config: TrainConfig = ctx.config.resolved()
        layout = layout_of(config)
        if config.lora.rank and layout.sharded:
            raise UsageError(f"LoRA with --parallel {config.parallel}: adapters are not sharded", "--parallel ddp")
        policy, parent = _warm_or_load(ctx, ref, load("objective", config.objective).reward_model, layout.sharded)
        start, moments = _carried(config, parent)
        set_frozen(policy.model, vision_frozen(config))
        adapters = Adapters(policy.model, config.lora, config.seed, moments) if config.lora.rank else None
        checkpoints = Checkpoints(ctx.scratch)
        watch = Watch.after(config.watch, ref.run if start.step else None)
        rows, rejected, moment = [], {}, checkpoints.last()
        if moment is not None:
            put_weights(policy.model, checkpoints.tensors(moment, "model"))
            moments = checkpoints.tensors(moment, "optimizer")
            rows = [from_record(StepRow, r) for r in moment.record["rows"]]
            rejected = {(r[0], r[1], r[2]): r[3] for r in moment.record["rejected"]}
            watch = Watch.from_record(config.watch, moment.record["watch"])
            ctx.progress.log(f"going on after step {len(rows)} of a run that was cut short")
        optimizer = make_optimizer(policy.model, config, moments)
        return cls(
            config, ctx, writer, policy, optimizer, start, rows, rejected, checkpoints, moment, watch, layout, adapters
        )

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
            raise UnavailableError(
                f"one process, {torch.cuda.device_count()} GPUs: training uses one",
                f"--nproc {torch.cuda.device_count()}, or set CUDA_VISIBLE_DEVICES=0",
            )
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
            "ddp_timeout": int(ranks.TIMEOUT.total_seconds()),
            **self.layout.arguments(self.policy.model, autocasts(c, device.type)),
            "max_grad_norm": c.max_grad_norm,
            "gradient_checkpointing": c.gradient_checkpointing,
            "dataloader_pin_memory": device.type == "cuda",
            "remove_unused_columns": False,
        } | more

    def scheduler(self, total: int) -> torch.optim.lr_scheduler.LambdaLR:
        """The rate schedule from the present step on; `total` steps long, 0 for constant after warm-up."""
        return make_scheduler(self.optimizer, self.config, self.step, total)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Around a trainer: no traces of it are left, and the model is whole again."""
        with contained(self.policy.model, self.policy.device):
            yield
            if self.layout.sharded:
                self._gather()

    def _gather(self) -> None:
        """A whole model and optimizer in place of the sharded ones."""
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        model, config = self.policy.model, self.config
        weights, moments = self.layout.weights(model), self.layout.moments(model, self.optimizer)
        # While it is set, a model is loaded in shards.
        unset_hf_deepspeed_config()
        device = self.policy.device
        whole = load_policy(
            self.policy.ref, device="cpu", dtype=config.dtype, trust_remote_code=config.trust_remote_code
        )
        put_weights(whole.model, weights)
        set_frozen(whole.model, vision_frozen(config))
        self.policy = replace(whole, device=device)
        self.optimizer = make_optimizer(whole.model, config, moments)

    def meet(self, mine: Any) -> list[Any]:
        """After each step, before its row: what every rank has of it. Also who left what out, and who is to stop."""
        parts = ranks.gathered((mine, list(self.rejected.items()) if ranks.count() > 1 else [], STOP.asked))
        for _, rejected, _ in parts:
            for key, detail in rejected:
                self.rejected.setdefault(key, detail)
        self.stopping = any(asked for _, _, asked in parts)
        return [theirs for theirs, _, _ in parts]

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
        watched = load("objective", self.config.objective).watched
        self.rows.append(self.watch.judge(row, self.ctx.progress.log) if watched else row)
        numbers = {"loss": row.loss} | ({"reward": row.reward_mean} if row.reward_mean is not None else {})
        self.ctx.progress.advance(1, **numbers)
        due = self.config.checkpoint_steps and len(self.rows) % self.config.checkpoint_steps == 0
        if due or self.stopping:
            self._checkpoint()
        if self.stopping:
            raise StoppedError(f"stopped after step {row.step}, which is kept", "the same command goes on from there")

    def heed(self) -> None:
        """Between rollouts: end the run on an alarm that is to end it, in a state that the next call goes on from."""
        try:
            heed(self.config.watch, self.watch.events)
        except CosmoError:
            self._checkpoint()
            raise

    def _checkpoint(self) -> None:
        tensors, facts = self.extra_state()
        model = self.layout.weights(self.policy.model)
        optimizer = self.layout.moments(self.policy.model, self.optimizer)
        record = {
            "rows": [asdict(r) for r in self.rows],
            "rejected": [[*k, v] for k, v in self.rejected.items()],
            "watch": self.watch.record(),
            **facts,
        }
        if ranks.rank() == 0:
            self.checkpoints.save(len(self.rows), {"model": model, "optimizer": optimizer, "extra": tensors}, record)
        # Nobody may end the run while it is written.
        ranks.meet()

    def finish(self, rollouts: int, carried: dict[str, float] | None = None) -> None:
        """Write rows, rejected samples, policy, trainer state and scalars; leave policy and state warm."""
        if ranks.rank() > 0:
            return
        from stages.train.rl.metrics import write_tensorboard

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
        position = Position(self.config.objective, self.step, self.start.rollouts + rollouts, carried or {})
        state = TrainerState(position, tensors)
        # Writing and hashing happen outside of Python: the larger file goes beside the others.
        with ThreadPoolExecutor(1) as pool:
            written = pool.submit(self._write_state, state)
            save_policy(model, self.policy.processor, folder)
            if load("objective", self.config.objective).watched:
                self.watch.write(self.writer.artifact(WATCH_FILE))
            write_tensorboard(self.rows, self.writer.artifact("tensorboard"))
            # Nobody samples from a reward model.
            if not load("objective", self.config.objective).reward_model and not ranks.launched():
                self._keep_warm(folder, state)
            written.result()

    def _write_state(self, state: TrainerState) -> None:
        for path in write_state(state, self.writer.artifact("trainer")):
            self.writer.sha256(path)

    def _keep_warm(self, folder: Path, state: TrainerState) -> None:
        model = self.policy.model
        model.zero_grad(set_to_none=True)
        model.requires_grad_(True)
        model.eval()
        new_id = folder_id(folder, self.writer.sha256)
        ref = replace(self.policy.ref, spec="", id=new_id, run=None, name=new_id)
        self.ctx.resources.put(TRAINER_STATE, new_id, state)
        # A GPU's sampler wants bfloat16 where training keeps float32: it must not find these weights instead.
        if self.policy.device.type == "cpu" and model.dtype == torch.float32:
            self.ctx.resources.put(POLICY, new_id, replace(self.policy, ref=ref))


def _warm_or_load(ctx: Context, ref: PolicyRef, reward: bool, sharded: bool) -> tuple[Policy, TrainerState | None]:
    """The start policy and its trainer state, as an earlier stage left them in memory or else from disk.

    One that is to be sharded is loaded into the CPU's memory: a GPU may have no room for the whole.
    The warm policy is taken away from the others: it is about to change.
    """
    config: TrainConfig = ctx.config
    policy: Policy | None = None if reward else ctx.resources.peek(POLICY, ref.id)
    state: TrainerState | None = ctx.resources.peek(TRAINER_STATE, ref.id)
    ctx.resources.drop(POLICY)
    ctx.resources.drop(TRAINER_STATE)
    if policy is None or not _fits(policy, config):
        load = load_reward_model if reward else load_policy
        place = ranks.placed(config.device)
        policy = load(
            ref,
            device="cpu" if sharded else place,
            dtype=config.dtype,
            trust_remote_code=config.trust_remote_code,
        )
        if sharded and place != "auto":
            policy = replace(policy, device=torch.device(place))
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
