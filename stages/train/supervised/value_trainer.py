"""Training of a value model: `train_value` from stored scored groups to a folder and what it is worth on held-out ones.

The body is trained with its head: a head on a policy's features as they are finds nothing of what tells one prompt's
completions apart (measured on the built-in world: 0.51 to 0.58 of pairs in order).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments

from schemas.tables import SCORED
from stages.core.atomic import json_bytes
from stages.core.errors import BadSample, InputError
from stages.core.runs.select import Entry
from stages.models.value_model import value_logits
from stages.models.value_record import ValueRecord, set_record
from stages.train.parallel.trainer import RankTrainer
from stages.train.rl.vision_cache import ImageInputs
from stages.train.session import Session
from stages.train.supervised.examples import ExampleRows, permutations, rows_to_take
from stages.train.supervised.router import learn_router, routed
from stages.train.supervised.step_log import StepLog
from stages.train.supervised.value_examples import ValueGroup, as_group, is_held_out, value_entries
from stages.train.supervised.value_figures import SUMMARY, Figures
from stages.train.supervised.value_loss import PairCount, totals, value_loss


def train_value(session: Session) -> None:
    """Learn from the groups that are not held out, measure on those that are, and finish."""
    config, inputs = session.config, session.ctx.inputs
    entries, record = value_entries(inputs, config, session.reject)
    set_record(session.policy.model, record)
    held_out = [e for e in entries if is_held_out(e, config)]
    learned = [e for e in entries if not is_held_out(e, config)]
    if not learned:
        raise InputError("every group is held out", "--set objectives.value.held_out=0.1")
    order = list(islice(permutations(learned, config.seed, lambda e: e.id), rows_to_take(config, len(learned))))
    left, steps = session.begin(len(order))
    groups = Groups(session, order, record)
    if left:
        with session.training():
            ValueTrainer(session, groups, left, steps).train()
    if config.objective_settings().router:
        learn_router(session.policy, Groups(session, learned, record).all())
    figures = Figures(record, learned=len(learned))
    for group in Groups(session, held_out, record).all():
        with torch.no_grad():
            figures.add(group, logits_of(session, session.policy.model, group))
        if config.objective_settings().router:
            figures.route(group, routed(session.policy, group))
    session.writer.artifact(SUMMARY).write_bytes(json_bytes(figures.summary()))
    session.finish(rollouts=0)


class Groups:
    """The examples of an order of groups, made when they are asked for; those that can't be used are rejected."""

    def __init__(self, session: Session, order: Sequence[Entry], record: ValueRecord) -> None:
        self._session, self._order, self._record = session, order, record
        self._rows = ExampleRows(session.ctx.inputs, order, table=SCORED)
        self._images = ImageInputs(session.policy.processor)

    def at(self, position: int) -> ValueGroup | None:
        """The example at a place of the order; None where it can't be used."""
        row = self._rows[position]
        try:
            group = as_group(row, self._session.policy.processor, self._images, self._record)
        except BadSample as error:
            self._session.reject(self._rows.source(position), row.id, error.reason, error.detail)
            return None
        return group if group.ends else None

    def all(self) -> Iterator[ValueGroup]:
        """All that can be used, in order."""
        found = (self.at(position) for position in range(len(self._order)))
        return (group for group in found if group is not None)


def logits_of(session: Session, model: Any, group: ValueGroup) -> Tensor:
    """Values (M, D) of the group's steps, before the sigmoid."""
    return value_logits(model, session.policy.processor, [group.tokens], group.ends)


class ValueTrainer(RankTrainer, Trainer):
    """One optimizer step after another over the precomputed order; each is `batch_size` groups."""

    def __init__(self, session: Session, groups: Groups, left: range, steps: int) -> None:
        self.session, self.groups, self.total = session, groups, steps
        self.step_log, self.count = StepLog(session), PairCount()
        size = session.config.batch_size
        self.queue = [range(at, min(at + size, left.stop)) for at in range(left.start, left.stop, size)]
        arguments = session.arguments(max_steps=len(self.queue))
        super().__init__(model=session.policy.model, args=TrainingArguments(**arguments))
        # It prints every log to stdout, which is for the next program.
        self.remove_callback(PrinterCallback)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """One optimizer step: the step's means first, then group by group, so that memory is that of one group."""
        model.train()
        groups = [g for p in inputs["positions"] if (g := self.groups.at(p)) is not None]
        self.step_log.add([(g.label, sum(map(len, g.tokens.completions))) for g in groups])
        step, self.count = totals(groups), PairCount()
        total = torch.zeros((), device=self.args.device)
        weight = self.session.config.objective_settings().pairs
        for at, group in enumerate(groups, start=1):
            with self.adding_up(model, last=at == len(groups)):
                with self.accelerator.autocast():
                    logits_MD = logits_of(self.session, model, group)
                loss = value_loss(logits_MD, group, step, weight, self.count)
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The steps in order; transformers would shuffle them, batch them and want tensors."""
        batches: Any = [{"positions": positions} for positions in self.queue]
        return DataLoader(batches, batch_size=None, shuffle=False, collate_fn=_unchanged)

    def floating_point_ops(self, inputs: Any) -> int:
        """0; transformers would look for `input_ids` in a batch that has none."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The step's row; transformers would print it."""
        self.step_log.record(logs, pair_accuracy=self.count.accuracy)


def _unchanged(item: Any) -> Any:
    return item
