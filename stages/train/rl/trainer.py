"""RL on stored, scored groups: `train_rl` goes through them, `RlTrainer.step` is the algorithm on one page."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments

from stages.core.registry import load
from stages.models.load import Policy
from stages.train.parallel import ranks
from stages.train.parallel.split import part_of
from stages.train.parallel.trainer import RankTrainer
from stages.train.rl.batches import MicroBatch, Update, micro_batches
from stages.train.rl.old_logprobs import fill_old_logprobs, old_logprobs_tensor, restore_old_logprobs
from stages.train.rl.rollout import Rollout, rollouts_of
from stages.train.rl.scoring import MicroBatchScorer, loss_inputs
from stages.train.rl.step_row import TokenSums, added_up, step_row
from stages.train.session import Session


def train_rl(session: Session, rollouts: Iterable[Rollout], reference: Policy | None, share: bool) -> dict[str, float]:
    """Learn from one rollout after another; what the last one carries to the next run (multipliers of constraints).

    `reference` is None where its KL has no weight; `share` computes each prompt once for its completions.
    """
    end = session.start.rollouts + len(rollouts_of(session.ctx.inputs, session.config))
    carried = session.start.carried
    for rollout in rollouts:
        with session.training():
            RlTrainer(session, rollout, reference, share).learn()
        carried = rollout.carried_after
        # After the last one the policy is saved first: the runner asks again about a finished run's alarms.
        if rollout.number + 1 < end:
            session.stop_on_alarm()
    return carried


class RlTrainer(RankTrainer, Trainer):
    """The updates of one rollout. transformers' loop asks for one `Update` after another and hands each to `step`."""

    def __init__(self, session: Session, rollout: Rollout, reference: Policy | None, share: bool) -> None:
        config = session.config
        self.session, self.rollout, self.total = session, rollout, config.schedule_steps
        self.scorer = MicroBatchScorer(session.policy, reference, rollout.banned_token_ids, share)
        self.loss, self.loss_settings = load("loss", config.loss).loss, config.loss_settings()
        self.sums, self.began = TokenSums(), 0.0
        # Before transformers' own `__init__`, which has to know how many steps are left.
        self.done = self._resume()
        self.queue = [update for _ in range(config.epochs) for update in rollout.updates][self.done :]
        arguments = session.arguments(max_steps=max(1, len(self.queue)))
        super().__init__(model=session.policy.model, args=TrainingArguments(**arguments))
        # It prints every log to stdout, which is for the next program.
        self.remove_callback(PrinterCallback)
        session.extra_state = self._checkpoint_state

    def learn(self) -> None:
        """Take the optimizer steps that are still to be taken."""
        if self.done == 0:
            groups = (group for update in self.rollout.updates for group in update.groups)
            self.session.log.trackers.completions(groups, len(self.session.rows) + 1)
        if self.queue:
            self.train()
        self.session.resumed = None

    def step(self, model: Any, update: Update) -> Tensor:
        """One optimizer step, in the order of arXiv:2505.12504, section 3; returns the step's loss, a scalar."""
        self.began = time.monotonic()
        # Dropout would move the ratio of the very first update; gradient checkpointing only works in training mode.
        model.train(self.session.config.gradient_checkpointing)
        # 1. Old log-probs of the whole rollout, before its first update moves the policy.
        if self.done == 0:
            self._fill_old_logprobs(model)
        # 2. Advantages: one a completion, estimated over the whole rollout when it was read (`read_rollout`).
        # 3. Micro-batches: as many groups as the token budget allows; each token is weighted over the whole step.
        batches = self.micro_batches(update)
        self.sums, total = TokenSums(), torch.zeros((), device=self.args.device)
        for i, micro in enumerate(batches, start=1):
            with self.adding_up(model, last=i == len(batches)):
                with self.compute_loss_context_manager():
                    # 4. The loss, by its plugin: the micro-batches' shares add up to the step's.
                    scores = self.scorer.policy(micro, model)
                    inputs = loss_inputs(micro, scores, self.scorer.reference(micro))
                    loss, stats = self.loss(inputs, self.loss_settings)
                    self.sums.add_micro_batch(micro, scores, inputs, stats, self.session.config.old_logprobs)
                # Ranks average their gradients and losses; the step's are sums.
                loss = loss * ranks.count()
                self.accelerator.backward(loss)
            total += loss.detach()
        # 5. The optimizer: on return transformers clips the gradient's norm and moves AdamW and its rate.
        # 6. Metrics: then it calls `log` with loss, norm and rate, which records the step's row.
        return total

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The updates in order, one a step; transformers would shuffle them, batch them and want tensors."""
        batches: Any = [{"update": update} for update in self.queue]
        return DataLoader(batches, batch_size=None, shuffle=False, collate_fn=_unchanged)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """`step`; transformers would do one forward, divide its loss by accumulation steps, and turn dropout on."""
        return self.step(model, inputs["update"])

    def floating_point_ops(self, inputs: Any) -> int:
        """0; transformers would look for `input_ids` in a batch that has none."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The step's row; transformers would print it, and calls once more at the end, with totals and no rate."""
        if "learning_rate" in logs:
            self._record_step(logs)

    def micro_batches(self, update: Update) -> list[MicroBatch]:
        """This rank's micro-batches of an update."""
        budget = self.session.config.micro_batch_tokens
        return part_of(update, lambda whole: micro_batches(whole, budget, self.scorer.share), self.part)

    def _fill_old_logprobs(self, model: Any) -> None:
        with self.compute_loss_context_manager():
            score = partial(self.scorer.policy, forward=model)
            fill_old_logprobs(self.rollout, self.session.config.old_logprobs, self.micro_batches, score)

    def _record_step(self, logs: dict[str, float]) -> None:
        # transformers counts a step before it logs it.
        session, update = self.session, self.queue[self.state.global_step - 1]
        self.sums = added_up(session.all_gather(self.sums))
        self.done += 1
        row = step_row(
            step=session.step + 1,
            rollout=self.rollout.number,
            number=self.done - 1,
            update=update,
            sums=self.sums,
            logs=logs,
            cost_weight=self.rollout.cost_weight,
            seconds=time.monotonic() - self.began,
        )
        session.record(row)

    def _checkpoint_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a checkpoint keeps of the rollout in hand: tensors, and facts for `train_rl` and `_resume`."""
        number = self.rollout.number - self.session.start.rollouts
        facts = {"rollout": number, "passed": self.done, "carried": self.rollout.carried_before}
        return {"old_logprobs": old_logprobs_tensor(self.rollout, self.args.device)}, facts

    def _resume(self) -> int:
        """How many steps of this rollout a checkpoint has behind it; takes the old log-probs from there."""
        moment = self.session.resumed
        if moment is None:
            return 0
        own = [c for update in self.rollout.updates for micro in self.micro_batches(update) for c in micro.completions]
        flat = self.session.checkpoints.tensors(moment, "extra")["old_logprobs"]
        restore_old_logprobs(self.rollout, flat, own)
        return int(moment.record["passed"])


def _unchanged(item: Any) -> Any:
    return item
