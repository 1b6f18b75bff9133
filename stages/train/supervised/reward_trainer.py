"""A scalar reward model, through TRL's RewardTrainer: of two completions the one with the higher reward scores higher.

Loss of a pair: - log sigmoid(r(chosen) - r(rejected)) (Bradley and Terry; Ouyang et al., arXiv:2203.02155).
TRL 1.16 gives its models text and no images, so the model is a text-only one, and rows with images are
rejected with the reason `no_vision`. A generative verifier (`--objective verifier`) sees them.
"""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback
from trl import RewardConfig, RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from schemas.tables import SCORED
from stages.core.errors import BadSample, InputError
from stages.engines.system_turn import encoded_row
from stages.train.session import Session
from stages.train.supervised.examples import ExampleRows
from stages.train.supervised.pairs import Pair, PairTexts, as_texts, pair_entries, pair_order
from stages.train.supervised.step_log import StepLog, equal_passes


def train_reward(session: Session) -> None:
    """Learn to order the pairs of the groups."""
    config = session.config
    dataset = encode_pairs(session)
    session.ctx.progress.log(f"pairs: {len(dataset):,}")
    refs = list(dataset["ref"])
    order = pair_order(refs, config)
    left, steps = session.begin(len(order))
    if left:
        with session.training():
            PairTrainer(session, dataset.select(order[left.start :]), steps).train()
    session.finish(rollouts=0)


def encode_pairs(session: Session) -> Dataset:
    """Token ids of every pair that the model can be given, in stored order; the others are rejected."""
    inputs = session.ctx.inputs
    pairs = pair_entries(inputs, session.config, session.reject)
    rows = ExampleRows(inputs, pairs, table=SCORED, made=as_texts)
    encoded = []
    for position, pair in enumerate(pairs):
        try:
            encoded.append(_encode(session, pair, rows[position]))
        except BadSample as error:
            session.reject(rows.source(position), pair.ref, error.reason, error.detail)
    if not encoded:
        raise InputError(
            f"none of {len(pairs)} pairs can be given to {session.policy.ref.name}",
            "a reward model reads text: choose rows without images, or --objective verifier",
        )
    return Dataset.from_list(encoded)


def _encode(session: Session, pair: Pair, texts: PairTexts) -> dict[str, Any]:
    processor = session.policy.processor
    prompt = encoded_row(processor.encode, texts.row, session.config.system_turn)[1].token_ids
    chosen, rejected = processor.encode_completion(texts.chosen), processor.encode_completion(texts.rejected)
    return {
        "ref": pair.ref,
        "label": pair.label,
        "length": len(chosen) + len(rejected),
        "chosen_ids": prompt + chosen,
        "rejected_ids": prompt + rejected,
    }


class PairCollator:
    """TRL's batch of pairs, with `rows`: (label, completion tokens) of each."""

    def __init__(self, pad_token_id: int) -> None:
        self._collate = DataCollatorForPreference(pad_token_id)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """`input_ids`, `attention_mask` (2B, L), the chosen first."""
        return {**self._collate(examples), "rows": [(e["label"], e["length"]) for e in examples]}


class PairTrainer(RewardTrainer):
    """TRL's trainer over what is left of the precomputed order; its log becomes our rows."""

    def __init__(self, session: Session, dataset: Dataset, steps: int) -> None:
        self.step_log = StepLog(session)
        processor = session.policy.processor
        super().__init__(
            model=session.policy.model,
            args=RewardConfig(**session.arguments(**equal_passes(session.config))),
            data_collator=PairCollator(processor.pad_token_id),
            train_dataset=dataset,
            processing_class=processor.tokenizer,
            optimizers=(session.optimizer, session.scheduler(steps)),
        )
        self.remove_callback(PrinterCallback)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """TRL's step, without what only our rows need."""
        self.step_log.add(inputs.pop("rows"))
        return super().training_step(model, inputs, num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called after each step; TRL puts its own numbers into `logs`."""
        super().log(logs, start_time)
        self.step_log.record(
            logs,
            pair_accuracy=logs.get("accuracy"),
            pair_margin=logs.get("margin"),
            reward_mean=logs.get("mean_reward"),
        )
