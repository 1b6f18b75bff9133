from __future__ import annotations

import pytest

from schemas.rollouts import Sampling
from schemas.values import Image, text_message
from stages.core.errors import BadSample
from stages.core.registry import load, names
from stages.core.stage import Resources
from stages.engines.base import EngineSettings, SampleRequest, engine_name
from tests.models.made import prompt


def test_completions_are_varied_words_from_the_prompt_id_and_seed() -> None:
    engine = load("engine", "fake").open(None, EngineSettings(), Resources())
    requests = []
    for seed in range(40):
        encoded = engine.encode(*prompt(seed, seed % 2))
        requests.append(SampleRequest(f"p{seed}", encoded.token_ids, {}, 4))
    sampling = Sampling(1.0, 1.0, 0, 60, 0)
    first = dict(engine.sample(requests, sampling))
    assert dict(engine.sample(requests[::-1], sampling)) == first
    assert dict(engine.sample(requests, Sampling(1.0, 1.0, 0, 60, 1))) != first
    texts = [engine.decode(s.token_ids) for samples in first.values() for s in samples]
    assert len(set(texts)) > 50
    assert any(t.startswith("sorry") for t in texts)
    assert any(t.startswith("<think>") and "</think> " in t for t in texts)
    assert all(len(s.logprobs) == len(s.token_ids) for samples in first.values() for s in samples)
    greedy = dict(engine.sample(requests, Sampling(0.0, 1.0, 0, 60, 0)))
    assert all(len({tuple(s.token_ids) for s in samples}) == 1 for samples in greedy.values())
    short = dict(engine.sample(requests, Sampling(1.0, 1.0, 0, 3, 0)))
    assert {s.finish_reason for samples in short.values() for s in samples} == {"length"}


def test_a_bad_image_is_a_bad_sample_here_too() -> None:
    engine = load("engine", "fake").open(None, EngineSettings(), Resources())
    with pytest.raises(BadSample):
        engine.encode([text_message("user", "x", 1)], [Image(b"nothing")])


def test_names() -> None:
    assert {"fake", "transformers"} <= set(names("engine"))
    assert engine_name("auto") == "transformers"
