"""Imitating completions through TRL's SFTTrainer, with our own order and collation: what SFT and verifiers share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from torch.utils.data import DataLoader
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from schemas.prompts import PromptRow
from stages.core.errors import BadSample, InputError, what_failed
from stages.engines.system_turn import AS_IT_IS, encoded_row
from stages.models.processor import PromptProcessor, text_ids
from stages.train.parallel import ranks
from stages.train.parallel.split import Part, Portion, passes, portions
from stages.train.parallel.trainer import RankTrainer
from stages.train.session import Session
from stages.train.supervised.examples import ExampleRows
from stages.train.supervised.step_log import StepLog, one_pass

# What transformers takes for "no target" where it counts a step's tokens, and torch's cross entropy by default.
IGNORED = -100
_TAGGED = re.compile(r"(<(?P<tag>[^<>/]+)>)(.*)(</(?P=tag)>)", re.S)


Spans = list[tuple[int, int]]
"""Parts of a text, (first character, the one after the last) each, in order."""


def in_tags(row: PromptRow, tags: Sequence[str]) -> Spans:
    """The parts of a row's reference that stand in one of the tags, with these."""
    if not tags:
        return []
    pattern = rf"<({'|'.join(map(re.escape, tags))})>.*?</\1>"
    return [found.span() for found in re.finditer(pattern, row.reference_response or "", re.S)]


def imitate(session: Session, rows: ExampleRows, given: Callable[[Any], Spans] = lambda row: []) -> None:
    """Train on the examples in their order, from where the session stands, and finish.

    `given`: which parts of an example's completion are read and not learned.
    """
    left, steps = session.begin(len(rows))
    if left:
        with session.training():
            CompletionTrainer(session, rows, left, steps, given).train()
    session.finish(rollouts=0)


Encoded = tuple[list[int], list[int], dict[str, Tensor]]
"""(prompt ids, completion ids with the closing token, image inputs)."""


def encode_example(
    processor: PromptProcessor, row: PromptRow, given: Spans | None = None, system_turn: str = AS_IT_IS
) -> tuple[Encoded, list[bool]]:
    """The example, its prompt as a rollout renders it, and which ids of its completion are to be learned, (T,).

    A `given` part is encoded as a rollout puts an observation into a completion: by itself, tags and words apart.
    """
    _, encoded = encoded_row(processor.encode, row, system_turn)
    text = row.reference_response or ""
    ids: list[int] = []
    own: list[bool] = []
    at = 0
    for start, stop in given or []:
        before = processor.encode_completion(text[at:start])[:-1]
        tagged = _TAGGED.fullmatch(text, start, stop)
        parts = [tagged[n] for n in (1, 3, 4)] if tagged else [text[start:stop]]
        told = [i for part in parts for i in text_ids(processor, part)]
        ids, own = [*ids, *before, *told], [*own, *[True] * len(before), *[False] * len(told)]
        at = stop
    rest = processor.encode_completion(text[at:])
    return (encoded.token_ids, [*ids, *rest], encoded.image_inputs), [*own, *[True] * len(rest)]


class CompletionCollator:
    """A portion of a step to padded tensors, labels on the completion only. Unusable examples are left out.

    With several ranks there is always something to go through the model: a filler, without labels.
    """

    def __init__(
        self, session: Session, rows: ExampleRows, part: Part, given: Callable[[Any], Spans] = lambda row: []
    ) -> None:
        self._session, self._rows, self._part, self._given = session, rows, part, given

    def __call__(self, portion: Portion) -> dict[str, Any]:
        """The forward's keywords with `labels` (B, L), and `rows`: (label, completion tokens) of each example.

        Of examples whose images can't be in one forward: `parts`, each such a batch, beside the `labels` of all.
        """
        processor = self._session.policy.processor
        kept: list[tuple[str, int]] = []
        encoded: list[Encoded] = []
        learned: list[list[bool]] = []
        for position in portion.own:
            if (found := self._encode(position)) is not None:
                example, own = found
                kept.append((self._rows[position].label, sum(own)))
                encoded.append(example)
                learned.append(own)
        encoded += self._fillers(portion, encoded)
        if not encoded:
            # transformers counts the labels of all a step's micro-batches before it runs them, the first position left
            # out.
            return {"labels": torch.full((1, 2), IGNORED), "rows": []}
        # Ranks have to go through the model as often as each other: with several, such examples stay an error.
        alone = self._part.count == 1 and not self._part.lockstep
        apart = processor.batches.apart([images for _, _, images in encoded]) if alone else []
        if len(apart) < 2:
            return self._padded(encoded, learned, kept)
        parts = [
            self._padded([encoded[i] for i in part], [learned[i] for i in part], [kept[i] for i in part])
            for part in apart
        ]
        widest = max(part["labels"].shape[1] for part in parts)
        labels = [pad(part["labels"], (0, widest - part["labels"].shape[1]), value=IGNORED) for part in parts]
        return {"labels": torch.cat(labels), "parts": parts, "rows": kept}

    def _padded(self, encoded: list[Encoded], learned: list[list[bool]], kept: list[tuple[str, int]]) -> dict[str, Any]:
        """One forward's keywords; of what is encoded beyond `kept` nothing is learned."""
        sequences = [prompt + completion for prompt, completion, _ in encoded]
        images = [inputs for _, _, inputs in encoded]
        batch = self._session.policy.processor.batch(sequences, images, side="right")
        labels_BL = torch.full_like(batch["input_ids"], IGNORED)
        for line, (prompt, completion, _) in enumerate(encoded[: len(kept)]):
            labels = [i if own else IGNORED for i, own in zip(completion, learned[line], strict=True)]
            labels_BL[line, len(prompt) : len(prompt) + len(completion)] = torch.tensor(labels)
        return {**batch, "labels": labels_BL, "rows": kept}

    def _encode(self, position: int) -> tuple[Encoded, list[bool]] | None:
        row = self._rows[position]
        try:
            how = self._session.config.system_turn
            return encode_example(self._session.policy.processor, row, self._given(row), how)
        except BadSample as error:
            self._session.reject(self._rows.source(position), row.id, error.reason, error.detail)
            return None

    def _fillers(self, portion: Portion, encoded: list[Encoded]) -> list[Encoded]:
        """What is needed beside the examples so that all ranks go through the same modules."""
        if self._part.count == 1 and not self._part.lockstep:
            return []
        if self._part.lockstep and not any(images for _, _, images in encoded):
            imaged = (self._encode(p) for p in portion.step if self._rows[p].images)
            if (filler := next((e for e in imaged if e is not None), None)) is not None:
                return [filler[0]]
        # Two tokens: a loss shifts by one, and of a single one nothing would be left.
        blank = self._session.policy.processor.pad_token_id
        return [] if encoded else [([blank], [blank], {})]


class CompletionTrainer(RankTrainer, SFTTrainer):
    """TRL's trainer over a slice of the precomputed order; its log becomes our rows."""

    def __init__(
        self, session: Session, rows: ExampleRows, positions: range, steps: int, given: Callable[[Any], Spans]
    ) -> None:
        self.session, self.step_log = session, StepLog(session)
        self.tokens: list[int] = []
        config = session.config
        self.total = steps
        size, micro = config.batch_size, config.micro_batch_size or config.batch_size
        self.portions = portions(positions, size, micro, self.part)
        more = one_pass(config, micro, passes(size, micro, self.part.count))
        super().__init__(
            model=session.policy.model,
            # TRL would apply the chat template and tokenise; the dataset is positions alone.
            args=SFTConfig(
                **session.arguments(**more, **_balance(session), dataset_kwargs={"skip_prepare_dataset": True})
            ),
            data_collator=CompletionCollator(session, rows, self.part, given),  # type: ignore[arg-type]
            train_dataset=Dataset.from_dict({"position": list(positions)}),
            processing_class=session.policy.processor.tokenizer,
        )
        # Qwen2.5-VL's class says no, for its own loss. TRL's counts tokens over the step and all ranks only then.
        self.model_accepts_loss_kwargs = True
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """This rank's portions in order, a micro-batch each; transformers would draw an order and deal it out."""
        return DataLoader(self.portions, batch_size=None, shuffle=False, collate_fn=self.data_collator)  # type: ignore[arg-type]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """TRL's step, without what only our rows need; nothing where no example was usable: its forward would fail.

        Parts of a micro-batch one after the other: each is divided by the step's tokens, so that they add up.
        """
        if "parts" in inputs:
            return sum(
                (self.training_step(model, part, num_items_in_batch) for part in inputs["parts"]),
                torch.zeros((), device=self.args.device),
            )
        rows = inputs.pop("rows")
        if not self.step_log.add(rows) and "input_ids" not in inputs:
            return torch.zeros((), device=self.args.device)
        self.tokens.append(sum(length for _, length in rows))
        try:
            return super().training_step(model, inputs, num_items_in_batch)
        # What a family's own code raises of inputs that it can't take: its processor may count an image's tokens
        # otherwise than its tower. Where ranks wait for each other the first error has to stay the one that is told.
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            if ranks.count() > 1 or isinstance(error, torch.OutOfMemoryError):
                raise
            name = type(self.session.policy.model).__name__
            raise InputError(
                f"{name} fails on a micro-batch of {len(rows)} examples: {what_failed(error)}",
                "cosmo check MODEL says what it takes; COSMO_DEBUG=1 for the traceback",
            ) from error

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's, but for a model that is its own base: TRL would ask that for hidden states and get logits."""
        own = self.session.policy.model
        if own.base_model is not own:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels_BL = inputs.pop("labels")[:, 1:]
        output = model(**inputs, use_cache=False)
        learned = labels_BL != IGNORED
        logits_MV = output.logits[:, :-1][learned].float()
        tokens = torch.as_tensor(num_items_in_batch).clamp(min=1)
        loss = cross_entropy(logits_MV, labels_BL[learned], reduction="sum") / tokens
        with torch.no_grad():
            logprobs_MV = logits_MV.log_softmax(-1)
            entropy = -(logprobs_MV.exp() * logprobs_MV).sum()
        sums, counts = zip(*ranks.all_gather((float(entropy), len(logits_MV))), strict=True)
        self._metrics["train"]["entropy"].append(sum(sums) / max(1, sum(counts)))
        # As TRL: the step's tokens are those of all ranks, whose gradients DDP averages.
        loss = loss * ranks.count()
        return (loss, output) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called after each step with its loss, gradient norm, rate, and TRL's entropy: the step's row."""
        # Before TRL's log, which takes their mean and clears them.
        entropies, tokens = list(self._metrics["train"].get("entropy", [])), self.tokens
        super().log(logs, start_time)
        if "grad_norm" in logs:
            self.tokens = []
            self.step_log.record(logs, entropy=_entropy(entropies, tokens))


def _balance(session: Session) -> dict[str, float]:
    """TrainingArguments: no loss over how evenly experts are asked where TRL can't tell how many there are.

    TRL adds it wherever a config has `output_router_logits`, and reads two numbers that some configs call otherwise.
    """
    text = session.policy.model.config.get_text_config()
    if getattr(text, "output_router_logits", None) not in (True, False):
        return {}
    experts, chosen = (getattr(text, name, None) for name in ("num_experts", "num_experts_per_tok"))
    if experts is None or chosen is None:
        session.ctx.progress.log(f"no loss balances the experts: {type(text).__name__} does not say how many there are")
        return {"router_aux_loss_coef": 0.0}
    # One expert is an ordinary layer, and has no router.
    return {} if experts > 1 else {"router_aux_loss_coef": 0.0}


def _entropy(means: list[float], tokens: list[int]) -> float | None:
    """Over the step's tokens. TRL has one mean a micro-batch, of all ranks, and takes the mean of these."""
    counts = [sum(by_rank) for by_rank in zip(*ranks.all_gather(tokens), strict=True)]
    return sum(m * n for m, n in zip(means, counts, strict=True)) / sum(counts) if sum(counts) else None
