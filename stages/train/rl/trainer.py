"""Learning from stored, scored groups: transformers' Trainer, fed one optimizer step at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments

from schemas.steps import StepRow
from schemas.tables import SCORED
from stages.core.errors import BadSample, InputError
from stages.core.registry import load
from stages.core.resources import Kind
from stages.core.runs.folder import RunFolder
from stages.models.families import unshared_reason
from stages.models.load import Policy, load_policy
from stages.models.policy_ref import resolve_policy
from stages.train.advantages.base import Carried
from stages.train.losses.base import LossInputs, masked_sum
from stages.train.parallel import ranks
from stages.train.parallel.split import part_of
from stages.train.parallel.trainer import RankTrainer
from stages.train.rl.batches import (
    MicroBatch,
    Sample,
    Update,
    estimate_advantages,
    make_groups,
    make_updates,
    micro_batches,
    usable,
)
from stages.train.rl.logprobs import TokenGroup, TokenLogprobs, completion_logprobs
from stages.train.rl.metrics import TokenSums, rollout_numbers, sum_up
from stages.train.rl.packed import choose_kernel
from stages.train.rl.vision_cache import FrozenTower, ImageInputs
from stages.train.session import Session

REF_POLICY: Kind[Policy] = Kind("ref_policy", on_device=True)
"""The frozen model of the reference KL, by its id."""


def train_rl(session: Session) -> None:
    """Learn from every input folder in turn: one folder is one rollout."""
    config, ctx = session.config, session.ctx
    reference = _reference(session)
    at = session.resumed.record["rollout"] if session.resumed else 0
    carried = session.resumed.record["carried"] if session.resumed else session.start.carried
    # An upper bound: a rollout with few live groups makes fewer updates.
    ctx.progress.start("train", len(ctx.inputs) * config.updates_per_rollout * config.epochs, "step")
    if session.rows:
        ctx.progress.advance(len(session.rows))
    if config.prefix_sharing == "auto":
        _settle_sharing(session, _models(session, reference))
    for number, folder in enumerate(ctx.inputs[at:], start=at):
        rows = usable(folder.rows(SCORED), folder.path.name, config, session.reject)
        groups = make_groups(rows, folder.path.name, config, session.reject)
        if not groups:
            raise InputError(f"{folder.where} has no group to train on", "its rejected rows say why")
        banned = _banned(folder, [g.row.banned_token_ids for g in groups])
        before, carried = carried, estimate_advantages(groups, config, carried)
        updates = make_updates(groups, config, session.start.rollouts + number)
        with session.training():
            RolloutTrainer(session, number, updates, banned, reference, (before, carried)).learn()
        if number + 1 < len(ctx.inputs):
            session.heed()
    session.finish(rollouts=len(ctx.inputs), carried=carried)


def _banned(folder: RunFolder, lists: list[list[int]]) -> list[int]:
    if any(ids != lists[0] for ids in lists):
        raise InputError(
            f"{folder.where}: its groups ban different tokens", "different policies sampled them: split it"
        )
    return lists[0]


def _models(session: Session, reference: Policy | None) -> list[Any]:
    return [p.model for p in (session.policy, reference) if p is not None]


def _why_not_packed(models: list[Any]) -> str | None:
    return next((why for m in models if (why := unshared_reason(m))), None)


def _settle_sharing(session: Session, models: list[Any]) -> None:
    """Say once, where it is so, why prompts are not shared, or attention is not one kernel."""
    if reason := _why_not_packed(models):
        session.ctx.progress.log(f"each completion is computed with its own copy of the prompt: {reason}")
    elif reason := choose_kernel(models, session.config, session.policy.device):
        session.ctx.progress.log(f"attention goes block by block: variable-length attention can't be used: {reason}")


def _reference(session: Session) -> Policy | None:
    """The frozen reference model, loaded only where its KL has a weight."""
    config = session.config
    if config.ref_kl == 0.0:
        return None
    ref = resolve_policy(config.ref_policy or "")
    policy = session.ctx.resources.get(
        REF_POLICY,
        ref.id,
        lambda: load_policy(ref, device=config.device, dtype=config.dtype, trust_remote_code=config.trust_remote_code),
    )
    policy.model.requires_grad_(False)
    return policy


class RolloutTrainer(RankTrainer, Trainer):
    """The updates of one rollout. A batch is an `Update`; training_step loops over its micro-batches."""

    def __init__(
        self,
        session: Session,
        number: int,
        updates: list[Update],
        banned: list[int],
        reference: Policy | None,
        carried: tuple[Carried, Carried],
    ) -> None:
        self.session, self.number, self.updates = session, number, updates
        self.total = session.config.schedule_steps
        self.banned, self.reference = banned, reference
        # What the advantages were given and what they left: a resumed rollout is estimated again, from the first.
        self.before, self.after = carried
        self.rollout = session.start.rollouts + number
        config = session.config
        models = _models(session, reference)
        self.share = config.prefix_sharing == "auto" and _why_not_packed(models) is None
        self.images = ImageInputs(session.policy.processor)
        # Sharded weights are gathered by all ranks at once: one may not skip a tower that another runs.
        alone = self.share and not torch.distributed.is_initialized()
        self.towers = {id(m): FrozenTower(m) for m in models if alone and FrozenTower.fits(m)}
        self.loss_function, self.loss_settings = load("loss", config.loss).loss, config.loss_settings()
        self.price: str | None = load("advantage", str(config.advantage)).cost_weight
        passes = [u for _ in range(config.epochs) for u in updates]
        self.done = self._restore()
        self.queue = list(enumerate(passes))[self.done :]
        self.sums = TokenSums()
        self.began = 0.0
        super().__init__(
            model=session.policy.model,
            args=TrainingArguments(**session.arguments(max_steps=max(1, len(self.queue)))),
        )
        self.remove_callback(PrinterCallback)
        session.extra_state = self._extra_state

    def learn(self) -> None:
        """Take the optimizer steps that are still to be taken."""
        if self.queue:
            self.train()
        self.session.resumed = None

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The updates in order, one a step."""
        return DataLoader(self.queue, batch_size=None, shuffle=False, collate_fn=_as_it_is)  # type: ignore[arg-type]

    def floating_point_ops(self, inputs: Any) -> int:
        """Not estimated: a batch is no tensor."""
        return 0

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward over the update's micro-batches; their losses add up to the step's."""
        self.began = time.monotonic()
        _, update = inputs
        # Dropout would move the ratio of the very first update; checkpointing only works in training mode.
        model.train(self.session.config.gradient_checkpointing)
        self._old_logprobs(model)
        self.sums = TokenSums()
        total = torch.zeros((), device=self.args.device)
        batches = self._micro_batches(update)
        for i, micro in enumerate(batches, start=1):
            with self.adding_up(model, last=i == len(batches)):
                with self.compute_loss_context_manager():
                    # Ranks average their gradients and losses; the step's are sums.
                    loss = self.compute_loss(model, {"micro": micro}) * ranks.count()
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """One micro-batch's share of the step's loss, by the loss plugin."""
        samples: list[Sample] = inputs["micro"].samples
        scores = self._scores(self.model, inputs["micro"], forward=model)
        if any(s.weight == 0.0 for s in samples):
            scores = _counted(scores, samples)
        for n, sample in enumerate(samples):
            if sample.old_logprobs is None:
                # The rollout's first update is on policy: its ratio is exactly 1.
                sample.old_logprobs = scores.logprobs_NT[n, : sample.length].detach().cpu()
        device = scores.mask_NT.device
        loss_inputs = LossInputs(
            scores.logprobs_NT,
            _padded([s.old_logprobs for s in samples], device),
            torch.tensor([s.advantage for s in samples], device=device).unsqueeze(1),
            scores.mask_NT,
            torch.tensor([s.weight for s in samples], device=device),
            self._reference_logprobs(inputs["micro"]),
        )
        loss, stats = self.loss_function(loss_inputs, self.loss_settings)
        self._count(scores, samples, stats)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called after each step with its loss, gradient norm and rate: the step's row."""
        if "learning_rate" not in logs:
            return
        self.sums = sum_up(self.session.meet(self.sums))
        _, update = self.queue[self.state.global_step - 1]
        self.done += 1
        row = StepRow(
            objective="rl",
            step=self.session.step + 1,
            rollout=self.rollout,
            update=self.done - 1,
            loss=logs["loss"],
            # DeepSpeed has none of a step that changes nothing.
            grad_norm=logs.get("grad_norm", 0.0) if update.live else 0.0,
            learning_rate=logs["learning_rate"],
            tokens=int(self.sums.tokens),
            entropy=self.sums.mean("entropy"),
            ratio_mean=self.sums.mean("ratio"),
            clip_fraction=self.sums.mean("clipped"),
            drift=self.sums.mean("drift"),
            ref_kl=self.sums.mean("ref_kl"),
            sampler_gap=self.sums.mean("sampler_gap"),
            cost_weight=self.after.get(self.price) if self.price else None,
            seconds=time.monotonic() - self.began,
            **rollout_numbers(update.groups),
        )
        self.session.record(row)

    def _micro_batches(self, update: Update) -> list[MicroBatch]:
        budget = self.session.config.micro_batch_tokens
        return part_of(update, lambda whole: micro_batches(whole, budget, self.share), self.part)

    def _old_logprobs(self, model: Any) -> None:
        """Before the first update moves the policy: its log-probs of everything the later ones will see."""
        if self.done > 0:
            return
        if self.session.config.old_logprobs == "stored":
            for sample in self._samples():
                sample.old_logprobs = torch.tensor(sample.completion.logprobs)
            return
        with torch.no_grad(), self.compute_loss_context_manager():
            for micro in (m for update in self.updates[1:] for m in self._micro_batches(update)):
                logprobs_NT = self._scores(self.model, micro, forward=model).logprobs_NT.cpu()
                for sample, values_T in zip(micro.samples, logprobs_NT, strict=True):
                    sample.old_logprobs = values_T[: sample.length].clone()

    def _scores(self, model: Any, micro: MicroBatch, forward: Any = None) -> TokenLogprobs:
        groups = [
            TokenGroup(
                group.row.prompt_token_ids,
                self._image_inputs(group.row),
                [s.completion.token_ids for s in samples],
                [s.completion.sampling.temperature for s in samples],
            )
            for group, samples in micro.parts
        ]
        images = [(g.row.id, t.image_inputs) for (g, _), t in zip(micro.parts, groups, strict=True) if t.image_inputs]
        tower = self.towers.get(id(model))
        with tower.lent(images) if tower and images else nullcontext():
            processor = self.session.policy.processor
            return completion_logprobs(model, processor, groups, self.banned, share=self.share, forward=forward)

    def _image_inputs(self, row: Any) -> dict[str, Tensor]:
        try:
            return self.images.of(row)
        except BadSample as error:
            raise InputError(
                f"prompt {row.id} can't be fed to {self.session.policy.ref.spec}: {error}",
                "train the policy that sampled these groups, or one with the same tokenizer and processor",
            ) from None

    def _reference_logprobs(self, micro: MicroBatch) -> Tensor | None:
        if self.reference is None:
            return None
        with torch.no_grad():
            return self._scores(self.reference.model, micro).logprobs_NT

    def _samples(self) -> Iterator[Sample]:
        return (s for update in self.updates for group in update.live for s in group.samples)

    def _count(self, scores: TokenLogprobs, samples: list[Sample], stats: dict[str, Tensor]) -> None:
        sums = {name: value.item() for name, value in stats.items()}
        sums["entropy"] = masked_sum(scores.entropy_NT, scores.mask_NT).item()
        if self.session.config.old_logprobs == "recompute":
            old_NT = _padded([s.old_logprobs for s in samples], scores.mask_NT.device)
            sampler_NT = _padded([torch.tensor(s.completion.logprobs) for s in samples], old_NT.device)
            sums["sampler_gap"] = masked_sum((old_NT - sampler_NT).abs(), scores.mask_NT).item()
        self.sums.add(scores.mask_NT.sum().item(), sums)

    def _extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        # Each sample's are with the rank that has it; the others have zeros.
        old = [torch.zeros(s.length) if s.old_logprobs is None else s.old_logprobs for s in self._samples()]
        flat = ranks.summed(torch.cat(old) if old else torch.zeros(0), self.args.device)
        return {"old_logprobs": flat}, {"rollout": self.number, "passed": self.done, "carried": self.before}

    def _restore(self) -> int:
        """How many steps of this rollout a checkpoint has behind it; takes the old log-probs from there."""
        moment = self.session.resumed
        if moment is None:
            return 0
        samples = list(self._samples())
        mine = {id(s) for update in self.updates for micro in self._micro_batches(update) for s in micro.samples}
        flat = self.session.checkpoints.tensors(moment, "extra")["old_logprobs"]
        for sample, values_T in zip(samples, flat.split([s.length for s in samples]), strict=True):
            sample.old_logprobs = values_T if id(sample) in mine else None
        return int(moment.record["passed"])


def _counted(scores: TokenLogprobs, samples: list[Sample]) -> TokenLogprobs:
    """The scores with the tokens of samples that count for nothing masked out."""
    counts_N1 = torch.tensor([[float(s.weight != 0.0)] for s in samples], device=scores.mask_NT.device)
    return replace(scores, mask_NT=scores.mask_NT * counts_N1)


def _as_it_is(item: Any) -> Any:
    return item


def _padded(values: list[Tensor | None], device: torch.device) -> Tensor:
    return pad_sequence([v for v in values if v is not None], batch_first=True).to(device)
