"""The check itself: cosmo's sampler, trainer and supervised forward against the model's own numbers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from schemas.rollouts import FinishReason, Sampling
from stages.core.errors import BadSample, CosmoError, first_line, what_failed
from stages.engines.base import SampledCompletion, SampleRequest
from stages.engines.system_turn import IN_USER_TURN
from stages.engines.transformers.engine import TransformersEngine
from stages.models.attention.shared_inputs import TokenGroup
from stages.models.families import family_of, unshared_reason
from stages.models.forward_inputs import keeps_all_logits
from stages.models.load import Policy
from stages.train.check.questions import Question, requests, with_system_turn
from stages.train.check.reference import chosen_logprobs, own_logits
from stages.train.check.vllm_table import known_architectures, vllm_class
from stages.train.rl.logprobs import completion_logprobs

EXACT = 1e-4
"""The largest difference of a log-prob in float32, nats. Rounding gives 1e-6; a mask or a position that is another
one gives 1e-2 and more."""
TEMPERATURE, NEW_TOKENS = 0.7, 8
_SAMPLER, _TRAINER, _SHARED, _IMITATION = "sampler", "trainer", "trainer, prompts shared", "supervised"
_SAMPLING = Sampling(temperature=TEMPERATURE, top_p=1.0, top_k=0, max_new_tokens=NEW_TOKENS, seed=0)


@dataclass(frozen=True, slots=True)
class Cell:
    """One way through the model on one question."""

    way: str
    question: str
    gap: float | None
    """The largest difference of a log-prob from the model's own, nats; None where there are no numbers."""
    error: str | None = None
    """Why there are none."""


@dataclass(slots=True)
class CheckResult:
    """What came out for one model."""

    model: str
    model_type: str
    dtype: str
    cells: list[Cell] = field(default_factory=list)
    features: dict[str, str] = field(default_factory=dict)
    """What holds beside the numbers, in words: rendering, sharing, chunked head, LoRA, backward."""
    seconds: float = 0.0

    @property
    def failures(self) -> list[Cell]:
        """Cells that are no numbers, or numbers that are not the model's."""
        return [c for c in self.cells if c.gap is None or not c.gap <= EXACT]

    @property
    def worst(self) -> float:
        """The largest gap of all; 0 where there is none."""
        return max((c.gap for c in self.cells if c.gap is not None), default=0.0)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {**asdict(self), "worst": self.worst, "exact": not self.failures}


Drawn = list[tuple[Question, SampleRequest, list[SampledCompletion]]]


def check_model(policy: Policy) -> CheckResult:
    """Ask the policy the questions in every way that training and sampling do; what a model does goes into the table.

    UnavailableError for a model that can't be sampled in any way.
    """
    began = time.monotonic()
    model = policy.model
    result = CheckResult(policy.ref.name, model.config.model_type, str(model.dtype).removeprefix("torch."))
    was_training = model.training
    model.eval()
    try:
        result.features["system turn"] = _system_turn(policy)
        asked, refused = requests(policy.processor)
        # A prompt that this model can't take is a rejected row, and no wrong number.
        result.features |= {f"refused, {name}": why for name, why in refused.items()}
        if not asked:
            # Nothing was compared, which is no sign of exactness.
            result.cells.append(Cell("the processor", "all", None, f"each was refused: {next(iter(refused.values()))}"))
        drawn, trouble = _sample(policy, asked, result)
        own = {request.id: _own(policy, question, request, completions) for question, request, completions in drawn}
        _compare_samples(policy, drawn, own, result)
        _compare_training(policy, drawn, own, result)
        result.features |= _features(policy, trouble)
    finally:
        model.train(was_training)
    result.seconds = round(time.monotonic() - began, 2)
    return result


def _system_turn(policy: Policy) -> str:
    try:
        policy.processor.encode(with_system_turn(), [])
    except BadSample as error:
        return f'refused: {error.detail}; system_turn = "{IN_USER_TURN}" asks again without one'
    return "taken"


def _sample(
    policy: Policy, asked: list[tuple[Question, SampleRequest]], result: CheckResult
) -> tuple[Drawn, dict[str, Any] | None]:
    """Two completions of each question, all in one call: padded, batched, from a cache."""
    engine = TransformersEngine(policy, "check", batch_tokens=1 << 16)
    by_id = {request.id: (question, request) for question, request in asked}
    drawn = []
    for name, completions in engine.sample((request for _, request in asked), _SAMPLING):
        failed = next((c for c in completions if c.finish_reason == FinishReason.ERROR), None)
        if failed is not None:
            result.cells.append(Cell(_SAMPLER, name, None, failed.error))
        else:
            drawn.append((*by_id[name], completions))
    return drawn, engine.trouble()


def _own(policy: Policy, question: Question, request: SampleRequest, completions: list[SampledCompletion]) -> Any:
    """The model's own logits (T, V) for each completion; a text that says why there are none."""
    try:
        found = [own_logits(policy, question, completion.token_ids) for completion in completions]
    # Whatever the family's own code raises: it is what the table is about.
    except Exception as error:
        return what_failed(error)
    if any(prompt_ids != request.token_ids for prompt_ids, _ in found):
        return "the processor gives other ids alone than with cosmo"
    return [logits_TV for _, logits_TV in found]


def _compare_samples(policy: Policy, drawn: Drawn, own: dict[str, Any], result: CheckResult) -> None:
    for _, request, completions in drawn:
        if isinstance(own[request.id], str):
            result.cells.append(Cell("the model's own generate", request.id, None, own[request.id]))
            continue
        gaps = [
            _gap(policy, logits_TV, c.token_ids, torch.tensor(c.logprobs), TEMPERATURE)
            for logits_TV, c in zip(own[request.id], completions, strict=True)
        ]
        result.cells.append(Cell(_SAMPLER, request.id, max(gaps)))


def _gap(policy: Policy, logits_TV: torch.Tensor, token_ids: list[int], found_T: torch.Tensor, heat: float) -> float:
    own_T = chosen_logprobs(logits_TV, token_ids, policy.processor.banned_token_ids, heat)
    return float((own_T.cpu() - found_T.detach().float().cpu()).abs().max())


def _compare_training(policy: Policy, drawn: Drawn, own: dict[str, Any], result: CheckResult) -> None:
    """All questions as one micro-batch, padded; the same packed, where the model can; as supervised training does."""
    usable = [d for d in drawn if not isinstance(own[d[1].id], str)]
    if not usable:
        return
    groups = [
        TokenGroup(r.token_ids, r.image_inputs, [c.token_ids for c in cs], [TEMPERATURE] * len(cs))
        for _, r, cs in usable
    ]
    ways: dict[str, tuple[Callable[[], list[torch.Tensor]], float]] = {
        _TRAINER: (lambda: _trained(policy, groups, share=False), TEMPERATURE),
        _IMITATION: (lambda: _imitated(policy, groups), 1.0),
    }
    if unshared_reason(policy.model) is None:
        ways[_SHARED] = (lambda: _trained(policy, groups, share=True), TEMPERATURE)
    for way, (compute, heat) in ways.items():
        try:
            rows = compute()
        except Exception as error:
            line = error.args[0] if isinstance(error, CosmoError) and error.args else what_failed(error)
            result.cells.append(Cell(way, "all", None, first_line(Exception(line))))
            continue
        at = 0
        for _, request, completions in usable:
            gaps = [
                _gap(policy, logits_TV, c.token_ids, rows[at + i][: len(c.token_ids)], heat)
                for i, (logits_TV, c) in enumerate(zip(own[request.id], completions, strict=True))
            ]
            result.cells.append(Cell(way, request.id, max(gaps)))
            at += len(completions)


def _trained(policy: Policy, groups: list[TokenGroup], *, share: bool) -> list[torch.Tensor]:
    """Log-probs of each completion as RL computes them, after a backward pass that leaves nothing behind."""
    banned = policy.processor.banned_token_ids
    with torch.enable_grad():
        scores = completion_logprobs(policy.model, policy.processor, groups, banned, share=share)
        weights = [p for p in policy.model.parameters() if p.requires_grad and p.is_floating_point()]
        gradients = torch.autograd.grad(scores.logprobs_NT.sum(), weights, allow_unused=True)
    if not all(torch.isfinite(g).all() for g in gradients if g is not None):
        raise ValueError("a gradient is not finite")
    return list(scores.logprobs_NT.detach())


def _imitated(policy: Policy, groups: list[TokenGroup]) -> list[torch.Tensor]:
    """Log-probs of each completion by a padded forward as supervised training does it: positions are the model's."""
    found: dict[int, torch.Tensor] = {}
    rows = [(g, c) for g in groups for c in g.completions]
    banned = policy.processor.banned_token_ids
    for part in policy.processor.batches.apart([g.image_inputs for g, _ in rows]):
        chosen = [rows[i] for i in part]
        batch = policy.processor.batch(
            [g.prompt + c for g, c in chosen], [g.image_inputs for g, _ in chosen], side="right"
        )
        with torch.no_grad():
            logits_BLV = policy.model(**{k: v.to(policy.device) for k, v in batch.items()}).logits.float()
        for line, (place, (group, tokens)) in enumerate(zip(part, chosen, strict=True)):
            start = len(group.prompt) - 1
            found[place] = chosen_logprobs(logits_BLV[line, start : start + len(tokens)], tokens, banned, 1.0)
    return [found[i] for i in range(len(rows))]


def _features(policy: Policy, trouble: dict[str, Any] | None) -> dict[str, str]:
    model = policy.model
    halved = trouble and ", ".join(f"{n} x {why}" for why, n in trouble["halved"].items())
    return {
        "images": "taken" if policy.processor.image_token_id is not None else "text only",
        "prefix sharing": unshared_reason(model) or "yes",
        "chunked head": _chunked(model),
        "LoRA": _lora(model),
        "vLLM": vllm_class(model.config.architectures, known_architectures()),
        "batches": f"some failed: {halved}" if halved else "whole",
    }


def _chunked(model: Any) -> str:
    if not family_of(model).head_is_last:
        return "no: not known to be the last thing its forward does"
    return f"no: {reason}" if (reason := keeps_all_logits(model)) else "yes"


def _lora(model: Any) -> str:
    from stages.train.lora import targets

    return f"{len(names)} layers" if (names := targets(model)) else "no linear layer of its language model was found"
