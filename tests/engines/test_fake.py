from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.rollouts import FinishReason, Sampling
from schemas.values import Image, Message, plain_text, text_message
from stages.core.errors import BadSample
from stages.core.registry import load, names
from stages.core.stage import Resources
from stages.engines.base import (
    Engine,
    EnginePlugin,
    EngineSettings,
    SampledCompletion,
    SampleRequest,
    engine_name,
)
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


class Parrot(Engine):
    """The example of `Engine`: only what an engine has to say."""

    label, banned_token_ids, max_positions = "parrot/1", [], 4096

    def encode(self, messages: list[Message], images: list[Image]) -> SimpleNamespace:
        return SimpleNamespace(token_ids=list(plain_text(messages).encode()), image_inputs={})

    def decode(self, token_ids: list[int]) -> str:
        return bytes(token_ids).decode()

    def sample(self, requests: Any, sampling: Sampling) -> Iterator[tuple[str, list[SampledCompletion]]]:
        for request in requests:
            one = SampledCompletion(list(b"hello"), [0.0] * 5, FinishReason.STOP)
            yield request.id, [one] * request.n


class ParrotPlugin(EnginePlugin):
    version = 1
    needs_policy = False

    def open(self, ref: Any, settings: EngineSettings, resources: Resources) -> Engine:
        return Parrot()


def test_an_engine_needs_no_more_than_its_abstract_methods() -> None:
    """The optional hooks have their defaults; what an engine has to have is asked for when it is made."""
    plugin = ParrotPlugin()
    assert plugin.gpus(EngineSettings()) == 0
    engine = plugin.open(None, EngineSettings(), Resources())
    assert engine.notice() is None
    request = SampleRequest("p", engine.encode(*prompt(0)).token_ids, {}, 2)
    ((ident, samples),) = engine.sample([request], Sampling(1.0, 1.0, 0, 8, 0))
    assert (ident, [engine.decode(s.token_ids) for s in samples]) == ("p", ["hello"] * 2)

    class Mute(Engine):
        def encode(self, messages: list[Message], images: list[Image]) -> Any:
            return None

    with pytest.raises(TypeError, match=r"decode.*sample"):
        Mute()  # type: ignore[abstract]
    lost = SampledCompletion.failed("no paper")
    assert (lost.finish_reason, lost.error, lost.token_ids) == ("error", "no paper", [])


def test_names() -> None:
    assert {"fake", "transformers"} <= set(names("engine"))
    assert engine_name("auto") == "transformers"
