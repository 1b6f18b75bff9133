"""The engine vllm against transformers, on tiny models and a CPU."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.rollouts import Sampling
from stages.core.errors import UnavailableError, UsageError
from stages.core.registry import load
from stages.core.stage import Resources
from stages.engines.base import VllmTable
from stages.engines.transformers.engine import TransformersEngine
from stages.engines.vllm import memory as vllm_memory
from stages.engines.vllm import session as vllm_session
from stages.engines.vllm.engine import VllmEngine
from stages.engines.vllm.plugin import SESSION
from stages.models.load import Policy
from stages.models.policy_ref import resolve_policy
from tests.engines_real.made import SETTINGS, largest_gap, nudged, requests, sampling
from tests.models.made import policy

TINY = ["tiny:qwen2_5_vl", "tiny:internvl", "tiny:llama"]
# One vLLM for the module, and a start takes most of a test's time: pytest has all tests of a family follow each other,
# in this order, since their parameter belongs to the module.
a_family = pytest.mark.parametrize("spec", TINY, scope="module")
first_family = pytest.mark.parametrize("spec", TINY[:1], scope="module")
RESOURCES = Resources()


def opened(spec: str, **settings: Any) -> VllmEngine:
    engine = load("engine", "vllm").open(resolve_policy(spec), replace(SETTINGS, **settings), RESOURCES)
    assert isinstance(engine, VllmEngine)
    return engine


def running() -> vllm_session.VllmSession:
    session = RESOURCES.peek(SESSION, "")
    assert session is not None
    return session


def sees(held: Policy) -> bool:
    return held.processor.image_token_id is not None


@a_family
def test_log_probs_greedy_bans_and_shards(spec: str) -> None:
    """One start a family: it takes the time."""
    engine, reference = opened(spec), policy(spec)
    asked = requests(engine, 9, 4, sees(reference))
    for temperature in (1.0, 0.6):
        given = dict(engine.sample(asked, sampling(temperature)))
        assert {len(samples) for samples in given.values()} == {4}
        assert largest_gap(reference, asked, given, temperature) < 1e-4
    completions = {ident: [s.token_ids for s in samples] for ident, samples in given.items()}
    assert len({tuple(ids) for group in completions.values() for ids in group}) > 30
    _same_in_other_shards(engine, asked, completions)
    _greedy_is_transformers(engine, reference)
    _no_banned_token(engine, reference)
    _goes_on_as_before(engine, reference)


def _same_in_other_shards(engine: VllmEngine, asked: list[Any], completions: dict[str, list[list[int]]]) -> None:
    shuffled = random.Random(1).sample(asked, len(asked))
    for size in (1, 4):
        for start in range(0, len(shuffled), size):
            for ident, samples in engine.sample(shuffled[start : start + size], sampling(0.6)):
                assert [s.token_ids for s in samples] == completions[ident]
    # Fewer samples are the first of many; another seed gives others.
    for ident, samples in engine.sample([replace(r, n=2) for r in asked], sampling(0.6)):
        assert [s.token_ids for s in samples] == completions[ident][:2]
    other = {ident: [s.token_ids for s in samples] for ident, samples in engine.sample(asked, sampling(0.6, seed=8))}
    assert all(other[ident] != completions[ident] for ident in completions)


def _greedy_is_transformers(engine: VllmEngine, reference: Policy) -> None:
    ours = TransformersEngine(reference, "t", 65536)
    greedy = sampling(0.0)
    mine = dict(engine.sample(requests(engine, 9, 2, sees(reference)), greedy))
    theirs = dict(ours.sample(requests(ours, 9, 2, sees(reference)), greedy))
    for ident, samples in theirs.items():
        for one, two in zip(mine[ident], samples, strict=True):
            assert (one.token_ids, one.finish_reason) == (two.token_ids, two.finish_reason)
            assert one.logprobs == pytest.approx(two.logprobs, abs=1e-4)


def _goes_on_as_before(engine: VllmEngine, reference: Policy) -> None:
    """Cut at any token, a greedy completion goes on as before, and ends at the stop text that transformers ends at."""
    greedy, ours = sampling(0.0), TransformersEngine(reference, "t", 65536)
    asked = requests(engine, 4, 3, sees(reference))
    whole = dict(engine.sample(asked, greedy))
    cuts = [[r, [0, 1 + at, 9 + at]] for at, r in enumerate(asked)]
    going = [replace(r, prefix_ids=[whole[r.id][0].token_ids[:t] for t in ts]) for r, ts in cuts]
    for ident, samples in engine.sample(going, greedy):
        (request,) = (r for r in going if r.id == ident)
        for prefix, sample in zip(request.prefix_ids, samples, strict=True):
            assert prefix + sample.token_ids == whole[ident][0].token_ids
            assert sample.logprobs == pytest.approx(whole[ident][0].logprobs[len(prefix) :], abs=1e-4)
    text = engine.decode(whole[asked[0].id][0].token_ids[3:8])[1:-1]
    stopping = replace(greedy, stop=[text])
    theirs = dict(
        ours.sample(
            [
                replace(r, image_inputs=o.image_inputs)
                for r, o in zip(going, requests(ours, 4, 3, sees(reference)), strict=True)
            ],
            stopping,
        )
    )
    mine = dict(engine.sample(going, stopping))
    assert any(s.stopped_by == text for s in mine[asked[0].id])
    for ident, samples in theirs.items():
        for one, two in zip(mine[ident], samples, strict=True):
            assert (one.token_ids, one.finish_reason, one.stopped_by) == (
                two.token_ids,
                two.finish_reason,
                two.stopped_by,
            )


def _no_banned_token(engine: VllmEngine, reference: Policy) -> None:
    """At temperature 2 a thousand ids are about equally likely: of 17,000 draws dozens would be banned ones."""
    eos, banned = set(reference.processor.eos_token_ids), set(engine.banned_token_ids)
    assert banned == set(reference.processor.banned_token_ids)
    reasons, tokens = set(), 0
    for _, samples in engine.sample(requests(engine, 6, 40, sees(reference)), sampling(2.0, new=80)):
        for sample in samples:
            reasons.add(sample.finish_reason)
            tokens += len(sample.token_ids)
            assert not banned & set(sample.token_ids)
            assert not eos & set(sample.token_ids[:-1])
            assert (sample.token_ids[-1] in eos) == (sample.finish_reason == "stop")
    assert reasons == {"stop", "length"}
    assert tokens > 10_000


@first_family
def test_a_prompt_read_otherwise_is_an_error_and_a_family_of_them_is_unavailable(spec: str) -> None:
    engine = opened(spec)
    token = policy(spec).processor.image_token_id
    asked = requests(engine, 3, 2)
    spoilt = asked[1]
    spoilt.token_ids.insert(spoilt.token_ids.index(token), token)
    given = dict(engine.sample(asked, sampling()))
    assert {s.finish_reason for s in given[spoilt.id]} == {"error"}
    assert "the policy's own processor gives" in str(given[spoilt.id][0].error)
    assert all(s.token_ids for ident in given if ident != spoilt.id for s in given[ident])
    with pytest.raises(UnavailableError, match="for every prompt"):
        list(engine.sample([spoilt], sampling()))


@first_family
def test_a_prompt_that_vllm_refuses_costs_no_other(spec: str) -> None:
    engine = opened(spec)
    asked = requests(engine, 5, 2)
    expected = {ident: [s.token_ids for s in samples] for ident, samples in engine.sample(asked, sampling())}
    refused = replace(asked[1], images=[*asked[1].images, *asked[1].images])
    given = dict(engine.sample([asked[0], refused, *asked[2:]], sampling()))
    assert [(s.finish_reason, s.token_ids) for s in given[refused.id]] == [("error", [])] * 2
    for ident in set(expected) - {refused.id}:
        assert [s.token_ids for s in given[ident]] == expected[ident]


@first_family
@pytest.mark.parametrize("temperature", [0.005, 2.5])
def test_temperatures_that_vllm_changes_or_refuses_are_named(spec: str, temperature: float) -> None:
    with pytest.raises(UsageError, match=str(temperature)):
        list(opened(spec).sample([], Sampling(temperature, 1.0, 0, 4, 0)))


@a_family
def test_new_weights_go_into_the_running_engine(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tiny models have tied heads: without care the old head would stay under the new body."""
    opened(spec)
    starts = running().starts
    for seed in (1, 2):
        held = nudged(spec, tmp_path / str(seed), seed)
        assert held.model.get_output_embeddings().weight is held.model.get_input_embeddings().weight
        engine = opened(str(tmp_path / str(seed)))
        asked = requests(engine, 6, 3, sees(held))
        given = dict(engine.sample(asked, sampling()))
        assert largest_gap(held, asked, given, 1.0) < 1e-4
        assert largest_gap(policy(spec), asked, given, 1.0) > 0.1
    assert running().starts == starts
    if spec != "tiny:llama":
        return
    # The same with the trap open: the probe sees it, and a start from nothing mends it.
    monkeypatch.setattr(vllm_memory, "with_head", lambda folder: None)
    held = nudged(spec, tmp_path / "trapped", 3)
    engine = opened(str(tmp_path / "trapped"))
    assert running().starts == starts + 1
    asked = requests(engine, 6, 3, False)
    assert largest_gap(held, asked, dict(engine.sample(asked, sampling())), 1.0) < 1e-4
    # And a probe that nothing satisfies ends the run with what it found.
    monkeypatch.setattr(vllm_session, "distance", lambda *_: 7.0)
    nudged(spec, tmp_path / "never", 4)
    with pytest.raises(UnavailableError, match="by 7 times what is allowed"):
        opened(str(tmp_path / "never"))


def test_options_reach_vllm_and_mistakes_are_named() -> None:
    engine = opened("tiny:llama", vllm=VllmTable(max_model_len=100, kv_cache_gb=0.25, extra={"max_num_seqs": 3}))
    assert engine.max_positions == 100
    asked = requests(engine, 4, 2, False)
    given = dict(engine.sample(asked, sampling()))
    assert largest_gap(policy("tiny:llama"), asked, given, 1.0) < 1e-4
    with pytest.raises(UsageError, match="'logprobs_mode', which is not free"):
        opened("tiny:llama", vllm=VllmTable(extra={"logprobs_mode": "raw_logprobs"}))
    with pytest.raises(UnavailableError, match=r"vLLM can't start with tiny:llama: .*no_such"):
        opened("tiny:llama", vllm=VllmTable(extra={"no_such": 1}))
    with pytest.raises(UnavailableError, match="built for a CPU"):
        opened("tiny:llama", device="cuda")
