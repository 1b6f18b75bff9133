from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch

from schemas.rollouts import Sampling
from stages.core.registry import load
from stages.core.stage import Resources
from stages.engines.base import EngineSettings, SampledCompletion, SampleRequest
from stages.engines.transformers.engine import TransformersEngine
from stages.models.families import FAMILIES, prompt_positions
from stages.models.load import Policy
from stages.models.policy_ref import resolve_policy
from stages.models.warm import POLICY
from tests.models.made import policy, prompt

TINY = ["tiny:qwen2_5_vl", "tiny:internvl", "tiny:llama"]


def _requests(engine: TransformersEngine, count: int, n: int) -> list[SampleRequest]:
    vision = engine.policy.processor.image_token_id is not None
    made = []
    for seed in range(count):
        encoded = engine.encode(*prompt(seed, (seed % 3) * vision))
        made.append(SampleRequest(f"prompt{seed}", encoded.token_ids, encoded.image_inputs, n))
    return made


def _sampling(temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0, new: int = 12) -> Sampling:
    return Sampling(temperature, top_p, top_k, new, 7)


def _engine(spec: str, batch_tokens: int = 65536) -> TransformersEngine:
    return TransformersEngine(policy(spec), "test/1", batch_tokens)


def _ids(out: Iterable[tuple[str, list[SampledCompletion]]]) -> dict[str, list[list[int]]]:
    return {ident: [s.token_ids for s in samples] for ident, samples in out}


@pytest.mark.parametrize(
    ("spec", "sampling"),
    [
        ("tiny:qwen2_5_vl", _sampling()),
        ("tiny:qwen2_5_vl", _sampling(0.0)),
        ("tiny:qwen2_5_vl", _sampling(0.7, top_p=0.9, top_k=40)),
        ("tiny:internvl", _sampling()),
        ("tiny:llama", _sampling()),
    ],
)
def test_completions_do_not_depend_on_batches_order_or_company(spec: str, sampling: Sampling) -> None:
    """The same (prompt, seed, policy) gives the same completion however batches fall: 1, 3, 8 prompts, shuffled."""
    requests = _requests(_engine(spec), 24 if spec == "tiny:qwen2_5_vl" else 10, 8)
    wide = max(len(r.token_ids) for r in requests) + sampling.max_new_tokens
    reference = list(_engine(spec).sample(requests, sampling))
    whole = _ids(reference)
    assert len({tuple(i) for ids in whole.values() for i in ids}) > (6 * len(requests) if sampling.temperature else 3)
    logprobs = {k: [s.logprobs for s in samples] for k, samples in reference}
    for prompts in (1, 3, 8):
        shuffled = random.Random(prompts).sample(requests, len(requests))
        out = dict(_engine(spec, prompts * 8 * wide).sample(shuffled, sampling))
        assert _ids(out.items()) == whole
        for ident, samples in out.items():
            for mine, theirs in zip(samples, logprobs[ident], strict=True):
                assert mine.logprobs == pytest.approx(theirs, abs=1e-5)
    # A prompt whose samples do not fit together, and fewer samples of it: the same first completions.
    few = [SampleRequest(r.id, r.token_ids, r.image_inputs, 3) for r in requests[:4]]
    assert _ids(_engine(spec, 2 * wide).sample(few, sampling)) == {r.id: whole[r.id][:3] for r in few}


def test_close_calls_are_drawn_again_alone() -> None:
    """Where many tokens tie, floats of the batch would decide; with the redraw they do not."""
    tied = copy.copy(policy("tiny:llama"))
    tied.model = copy.deepcopy(tied.model)
    with torch.no_grad():
        # Logits of about 1e-7: every greedy choice hangs on rounding.
        tied.model.model.norm.weight.mul_(1e-6)
    requests = _requests(TransformersEngine(tied, "t", 65536), 12, 2)
    outs = []
    for tokens in (65536, 200, 70):
        engine = TransformersEngine(tied, "t", tokens)
        outs.append(_ids(engine.sample(requests, _sampling(0.0, new=6))))
    assert outs[0] == outs[1] == outs[2]


class _Company:
    """A forward in which company matters: with n rows in a batch, token `first + n` is likelier by n times `by`."""

    def __init__(self, model: Any, first: int, by: float) -> None:
        self._forward, self._first, self._by = model.forward, first, by
        self.alone = self.together = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = self._forward(*args, **kwargs)
        rows = len(kwargs["input_ids"])
        out.logits[:, -1, self._first + rows] += self._by * rows
        self.alone += not kwargs["use_cache"]
        self.together += kwargs["use_cache"]
        return out


def _tied(spec: str, by: float) -> tuple[TransformersEngine, _Company]:
    """An engine on a model whose tokens are all equally likely, but for the company's favourite."""
    tied = copy.copy(policy(spec))
    tied.model = copy.deepcopy(tied.model)
    with torch.no_grad():
        tied.model.model.norm.weight.mul_(1e-6)
    company = _Company(tied.model, 300, by)
    tied.model.forward = company
    return TransformersEngine(tied, "t", 65536), company


def test_a_token_that_company_decided_is_drawn_again_without_it() -> None:
    """The redraw itself: without it each batch size would have a favourite of its own."""
    engine, company = _tied("tiny:llama", 1e-5)
    requests = _requests(engine, 5, 2)
    out = dict(engine.sample(requests, _sampling(0.0, new=4)))
    # Alone there is one row, whose favourite is 301; the log-prob is that of the redraw, too.
    assert _ids(out.items()) == {r.id: [[301] * 4] * 2 for r in requests}
    assert company.alone == 5 * 2 * 4
    flat = math.log(engine.policy.processor.vocab_size - len(engine.banned_token_ids))
    logprobs = [p for samples in out.values() for s in samples for p in s.logprobs]
    assert logprobs == pytest.approx([1e-5 - flat] * len(logprobs), abs=4e-6)


def test_a_clear_winner_is_not_drawn_again() -> None:
    """A redraw costs a whole forward of its row: it is for close calls alone."""
    engine, company = _tied("tiny:llama", 1e-2)
    out = dict(engine.sample(_requests(engine, 5, 2), _sampling(0.0, new=4)))
    # All ten rows in one batch, but for the prefill of five prompts: favourites 305, then 310.
    assert {tuple(s.token_ids) for samples in out.values() for s in samples} == {(305, 310, 310, 310)}
    assert (company.alone, company.together) == (0, 4)


def brief(spec: str) -> tuple[TransformersEngine, list[int]]:
    """An engine on a model that ends about one completion in ten at every token, and the rows of its batches."""
    brief = copy.copy(policy(spec))
    brief.model = copy.copy(brief.model)
    forward, end = brief.model.forward, brief.processor.eos_token_ids[0]
    rows: list[int] = []

    def likelier_to_end(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        out.logits[:, -1, end] += 5.0
        if kwargs["use_cache"]:
            rows.append(len(kwargs["input_ids"]))
        return out

    brief.model.forward = likelier_to_end
    return TransformersEngine(brief, "t", 65536), rows


def test_a_family_without_a_record_gets_the_same_completions_from_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each completion with its own copy of the prompt's cache, through rows that end and leave the batch."""
    sampling = _sampling(new=24)
    requests = _requests(_engine("tiny:qwen2_5_vl"), 6, 6)
    engine, rows = brief("tiny:qwen2_5_vl")
    shared = list(engine.sample(requests, sampling))
    assert len({len(s.token_ids) for _, samples in shared for s in samples}) > 8
    assert _engine("tiny:qwen2_5_vl").notice() is None
    record = replace(FAMILIES["qwen2_5_vl"], unshared="its layers alternate")
    monkeypatch.setitem(FAMILIES, "qwen2_5_vl", record)
    engine, copied_rows = brief("tiny:qwen2_5_vl")
    copies = list(engine.sample(requests, sampling))
    assert _ids(copies) == _ids(shared)
    for (_, mine), (_, other) in zip(copies, shared, strict=True):
        for one, two in zip(mine, other, strict=True):
            assert one.logprobs == pytest.approx(two.logprobs, abs=1e-5)
    assert engine.notice() == "each completion is sampled with its own copy of the prompt: its layers alternate"
    # One batch, whose rows leave it for good: a batch that fails is halved, and its completions come out all the same.
    assert len(rows) <= sampling.max_new_tokens
    assert rows[:2] == [6, 36]
    assert rows[1:] == sorted(rows[1:], reverse=True)
    assert rows[-1] < 36
    assert copied_rows == rows


@pytest.mark.parametrize("spec", TINY)
@pytest.mark.parametrize("sampling", [_sampling(), _sampling(0.6), _sampling(0.0), _sampling(1.0, top_k=20)])
def test_stored_log_probs_are_those_of_a_plain_forward(spec: str, sampling: Sampling) -> None:
    engine = _engine(spec)
    model, processor = engine.policy.model, engine.policy.processor
    for request in _requests(engine, 3, 4):
        _, samples = next(iter(engine.sample([request], sampling)))
        for sample in samples:
            batch = processor.batch([[*request.token_ids, *sample.token_ids]], [request.image_inputs])
            with torch.no_grad():
                logits = model(**batch, position_ids=prompt_positions(model, batch)[0]).logits[0].double()
            start = len(request.token_ids) - 1
            logits = logits[start : start + len(sample.token_ids)]
            logits[:, processor.banned_token_ids] = -torch.inf
            if sampling.temperature:
                logits /= sampling.temperature
            if sampling.top_k:
                least = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
                logits = logits.masked_fill(logits < least, -torch.inf)
            expected = torch.log_softmax(logits, -1).gather(-1, torch.tensor(sample.token_ids)[:, None])[:, 0]
            assert sample.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("spec", TINY)
def test_completions_end_where_they_should_and_hold_no_banned_token(spec: str) -> None:
    engine = _engine(spec)
    eos, banned = set(engine.policy.processor.eos_token_ids), set(engine.banned_token_ids)
    reasons = set()
    for _, samples in engine.sample(_requests(engine, 10, 8), _sampling(3.0, new=80)):
        for sample in samples:
            reasons.add(sample.finish_reason)
            assert len(sample.logprobs) == len(sample.token_ids) <= 80
            assert not banned & set(sample.token_ids)
            assert not eos & set(sample.token_ids[:-1])
            assert (sample.token_ids[-1] in eos) == (sample.finish_reason == "stop")
            assert sample.finish_reason == "stop" or len(sample.token_ids) == 80
    assert reasons == {"stop", "length"}


def _with_fault(spec: str, fault: Any) -> tuple[TransformersEngine, list[int]]:
    """An engine whose model calls `fault(rows)` before each forward, and the batch sizes it saw."""
    broken = copy.copy(policy(spec))
    forward, rows = broken.model.forward, []
    broken = Policy(broken.ref, copy.copy(broken.model), broken.processor, broken.device)

    def checked(*args: Any, **kwargs: Any) -> Any:
        rows.append(len(kwargs["input_ids"]))
        fault(rows[-1])
        return forward(*args, **kwargs)

    broken.model.forward = checked
    return TransformersEngine(broken, "t", 65536), rows


def test_out_of_memory_halves_the_batch_and_changes_no_completion() -> None:
    requests = _requests(_engine("tiny:llama"), 6, 4)
    expected = _ids(_engine("tiny:llama").sample(requests, _sampling()))

    def full(rows: int) -> None:
        if rows > 5:
            raise torch.OutOfMemoryError("no room")

    engine, rows = _with_fault("tiny:llama", full)
    assert _ids(engine.sample(requests, _sampling())) == expected
    assert max(rows) > 5


def test_a_sample_that_fails_alone_is_an_error_and_the_others_are_whole() -> None:
    requests = _requests(_engine("tiny:qwen2_5_vl"), 5, 2)
    expected = _ids(_engine("tiny:qwen2_5_vl").sample(requests, _sampling()))
    spoilt = requests[1]
    # One placeholder too many for the image's features: what a bad row looks like to a model.
    spoilt.token_ids.insert(4, engine_image_token())
    out = dict(_engine("tiny:qwen2_5_vl").sample(requests, _sampling()))
    for sample in out[spoilt.id]:
        assert (sample.finish_reason, sample.token_ids) == ("error", [])
        assert sample.error
    del out[spoilt.id], expected[spoilt.id]
    assert _ids(out.items()) == expected


def engine_image_token() -> int:
    token = policy("tiny:qwen2_5_vl").processor.image_token_id
    assert token is not None
    return token


def test_a_model_that_has_lost_its_numbers_gives_errors_not_words() -> None:
    lost = copy.copy(policy("tiny:llama"))
    lost.model = copy.deepcopy(lost.model)
    with torch.no_grad():
        lost.model.model.norm.weight.fill_(torch.nan)
    engine = TransformersEngine(lost, "t", 65536)
    out = dict(engine.sample(_requests(engine, 2, 2), _sampling()))
    assert {s.error for samples in out.values() for s in samples} == {"the model's output at token 1 is not finite"}


def test_the_model_comes_back_in_the_mode_it_was_in_and_is_shared() -> None:
    resources = Resources()
    ref = resolve_policy("tiny:llama")
    resources.put(POLICY, ref.id, policy("tiny:llama"))
    engine = load("engine", "transformers").open(ref, EngineSettings(), resources)
    assert engine.policy is policy("tiny:llama")
    assert engine.label == "transformers/1"
    engine.policy.model.train()
    try:
        list(engine.sample(_requests(engine, 1, 1), _sampling()))
        assert engine.policy.model.training
    finally:
        engine.policy.model.eval()
