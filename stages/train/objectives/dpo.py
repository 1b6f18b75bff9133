"""Direct preference optimisation (DPO) on pairs of a group's completions, through TRL's DPOTrainer.

Rafailov et al., arXiv:2305.18290, eq. 7: for a chosen and a rejected completion of one prompt,

    loss = -log sigmoid(beta * ((log pi(c) - log ref(c)) - (log pi(r) - log ref(r))))

log pi sums over a completion's tokens and its closing token. The reference is the policy that the run starts from: its
log-probs are computed once, before the first step, so that one model is in memory. Prompts, images included, are those
of the rollout; the pairs are drawn as for a reward model (`[train.dpo] margin`, `max_pairs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.tables import SCORED
from stages.core.config import option
from stages.core.errors import BadSample, InputError
from stages.engines.system_turn import encoded_row
from stages.train.objectives.base import Objective
from stages.train.supervised.pair_options import PairOptions

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stages.train.session import Session
    from stages.train.supervised.examples import ExampleRows
    from stages.train.supervised.pairs import Pair, PairTexts
    from stages.train.supervised.step_log import StepLog


@dataclass(frozen=True)
class DpoOptions(PairOptions):
    """Which pairs are learned from, and how far the policy may go from where it started."""

    # TRL's default as well.
    beta: float = option(0.1, "How dear it is to leave the reference: the loss's inverse temperature", low=0.0)


class Dpo(Objective):
    """Make the completion with the higher reward likelier than the other, measured from the start policy."""

    called = "DPO"
    title = "Direct preference optimisation"
    tags = ("dpo",)
    # The paper's rate (appendix B), and the vision tower as the reference saw it.
    learning_rate = 1e-6
    freezes_vision = True
    # TRL averages over a rank's pairs: unequal shares would weigh them differently.
    several_ranks = False
    settings = DpoOptions

    def train(self, session: Session) -> None:
        """The pairs of the groups in a seeded order, from where the session stands."""
        from stages.train.supervised.pairs import pair_order

        pairs = Pairs(session)
        session.ctx.progress.log(f"pairs: {len(pairs):,}")
        order = pair_order([pair.ref for pair in pairs.entries], session.config)
        left, steps = session.begin(len(order))
        if left:
            with session.training():
                make_trainer(session, pairs, order[left.start :], steps).train()
        session.finish(rollouts=0)


class Pairs:
    """The pairs that the policy can be given, by their place in `entries`; the others are rejected."""

    def __init__(self, session: Session) -> None:
        """Encode every pair once, to know. InputError where none can be given to the policy."""
        from stages.train.supervised.examples import ExampleRows
        from stages.train.supervised.pairs import as_texts, pair_entries

        inputs = session.ctx.inputs
        found = pair_entries(inputs, session.config, session.reject)
        self.reference: Tensor | None = None
        """Log-probs (pairs, 2) under the start policy, chosen first; None until they are computed."""
        self.entries: list[Pair] = []
        self._processor, self._system_turn = session.policy.processor, session.config.system_turn
        rows = ExampleRows(inputs, found, table=SCORED, made=as_texts)
        for position, pair in enumerate(found):
            try:
                self._encode(rows[position])
                self.entries.append(pair)
            except BadSample as error:
                session.reject(rows.source(position), pair.ref, error.reason, error.detail)
        if not self.entries:
            raise InputError(
                f"none of {len(found)} pairs can be given to {session.policy.ref.name}", "its rejected rows say why"
            )
        self._rows: ExampleRows = ExampleRows(inputs, self.entries, table=SCORED, made=as_texts)

    def __len__(self) -> int:
        return len(self.entries)

    def _encode(self, texts: PairTexts) -> tuple[list[int], list[list[int]], dict[str, Tensor]]:
        """(prompt ids, the two completions' ids, image inputs), the prompt as a rollout renders it.

        BadSample for completions that hold an environment's words: a text does not say which they are.
        """
        if not texts.own:
            raise BadSample("not_generated", "the pair holds tokens that neither the policy nor a person wrote")
        _, encoded = encoded_row(self._processor.encode, texts.row, self._system_turn)
        completions = [self._processor.encode_completion(text) for text in (texts.chosen, texts.rejected)]
        return encoded.token_ids, completions, encoded.image_inputs

    def collate(self, examples: list[dict[str, int]]) -> dict[str, Any]:
        """TRL's batch of these pairs: 2B sequences, the chosen ones first, and `rows`: (label, completion tokens).

        What TRL's own collators can't do: token ids together with image inputs that are computed already. Every key
        that TRL does not know goes to the model's forward as it is.
        """
        import torch

        places = [example["pair"] for example in examples]
        encoded = [self._encode(self._rows[place]) for place in places]
        sides = [(prompt, both[side], images) for side in (0, 1) for prompt, both, images in encoded]
        batch = self._processor.batch([p + c for p, c, _ in sides], [images for _, _, images in sides], side="right")
        mask_BL = torch.zeros_like(batch["input_ids"])
        for line, (prompt, completion, _) in enumerate(sides):
            mask_BL[line, len(prompt) : len(prompt) + len(completion)] = 1
        lengths = [sum(map(len, both)) for _, both, _ in encoded]
        labels = [self.entries[place].label for place in places]
        found = {**batch, "completion_mask": mask_BL, "rows": list(zip(labels, lengths, strict=True))}
        if self.reference is not None:
            found["ref_chosen_logps"], found["ref_rejected_logps"] = self.reference[places].unbind(1)
        return found


class PreferenceSteps:
    """Our side of TRL's DPOTrainer, before which it stands: pairs as they are, its log as our rows."""

    step_log: StepLog

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        """As it is. TRL would apply the chat template to texts; our pairs are encoded as the rollout was."""
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *args: Any) -> Any:
        """As it is. TRL would write reference log-probs to a cache in the home folder; ours are in the checkpoint."""
        return dataset

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """TRL's step, without what only our rows need."""
        self.step_log.add(inputs.pop("rows"))
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called after each step. TRL puts its own numbers into `logs`, and would print them."""
        super().log(logs, start_time)  # type: ignore[misc]
        accuracy, margin = logs.get("rewards/accuracies"), logs.get("rewards/margins")
        self.step_log.record(logs, pair_accuracy=accuracy, pair_margin=margin)


def make_trainer(session: Session, pairs: Pairs, order: list[int], steps: int) -> Any:
    """A DPOTrainer over these pairs in this order, with the reference's log-probs: computed, or a checkpoint's."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import DPOConfig, DPOTrainer

    from stages.train.supervised.step_log import StepLog, equal_passes

    # Made here, for a plan is made without torch: at the top of the file the base class would import TRL.
    trainer: Any = type("DpoTrainer", (PreferenceSteps, DPOTrainer), {})(
        model=session.policy.model,
        args=DPOConfig(
            **session.arguments(**equal_passes(session.config)),
            beta=session.config.objective_settings().beta,
            # Else TRL loads a second model for the reference.
            precompute_ref_log_probs=True,
            # It would switch dropout off in the modules of a policy that stays warm after the run.
            disable_dropout=False,
        ),
        data_collator=pairs.collate,
        # Places alone: TRL refuses to precompute a reference for a dataset with images.
        train_dataset=Dataset.from_dict({"pair": order}),
        processing_class=session.policy.processor.tokenizer,
        optimizers=(session.optimizer, session.scheduler(steps)),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.step_log = StepLog(session)
    if session.resumed is None:
        reference = reference_logprobs(trainer, pairs)
    else:
        # The weights have moved since: only the checkpoint knows what the start policy said.
        reference = session.checkpoints.tensors(session.resumed, "extra")["reference"]
    pairs.reference = reference
    session.extra_state = lambda: ({"reference": reference}, {})
    return trainer


def reference_logprobs(trainer: Any, pairs: Pairs) -> torch.Tensor:
    """Summed log-probs of every pair under the model as it is, (pairs, 2), the chosen one first, on the CPU."""
    import torch

    # Before the first step the model is in eval mode; TRL's steps turn dropout on, where a model has it.
    found, size = [], trainer.args.per_device_train_batch_size
    for begin in range(0, len(pairs), size):
        batch = pairs.collate([{"pair": place} for place in range(begin, min(begin + size, len(pairs)))])
        del batch["rows"]
        inputs = trainer._prepare_inputs(batch)
        found.append(torch.stack(trainer.compute_ref_log_probs(trainer.model, inputs), dim=1).cpu())
    return torch.cat(found)


PLUGIN = Dpo()
