"""Completions that go on from given ids, and texts that end them: the same bits as the completion that was not cut."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from schemas.rollouts import FinishReason, Sampling
from stages.core.registry import load
from stages.core.stage import Resources
from stages.engines.base import Engine, EngineSettings, SampledCompletion, SampleRequest
from stages.engines.seeds import sample_key, sampler_seed
from stages.engines.stop_strings import StopStrings
from stages.engines.transformers.engine import TransformersEngine
from stages.engines.vllm.engine import VllmEngine
from stages.models.families import FAMILIES
from stages.models.load import Policy
from tests.engines.test_transformers import brief
from tests.models.made import policy, prompt

TINY = ["tiny:qwen2_5_vl", "tiny:internvl", "tiny:llama"]
NEW = 6
Found = dict[str, list[SampledCompletion]]


def sampling(temperature: float = 1.0, new: int = NEW, stop: list[str] | None = None) -> Sampling:
    return Sampling(temperature, 1.0, 0, new, 7, stop or [])


def requests(engine: Engine, count: int, n: int, images: bool = True) -> list[SampleRequest]:
    made = []
    for seed in range(count):
        encoded = engine.encode(*prompt(seed, (seed % 3) * images, 6))
        made.append(SampleRequest(f"prompt{seed}", encoded.token_ids, encoded.image_inputs, n))
    return made


def cut(given: list[SampleRequest], whole: Found, at: Callable[[], int]) -> list[SampleRequest]:
    """The requests, each completion given its first `at()` ids."""
    return [replace(r, prefix_ids=[s.token_ids[: at()] for s in whole[r.id]]) for r in given]


def rest(given: list[SampleRequest], whole: Found) -> Found:
    """What is to come: the whole completions without what they were given."""
    return {
        r.id: [
            replace(s, token_ids=s.token_ids[len(p) :], logprobs=s.logprobs[len(p) :])
            for s, p in zip(whole[r.id], r.prefix_ids, strict=True)
        ]
        for r in given
    }


def fake() -> Engine:
    engine: Engine = load("engine", "fake").open(None, EngineSettings(), Resources())
    return engine


@pytest.mark.parametrize(("spec", "temperature"), [*((spec, 1.0) for spec in TINY), (TINY[0], 0.0)])
def test_cut_at_any_token_a_completion_goes_on_to_the_bit(spec: str, temperature: float) -> None:
    """Ids and log-probs, images in the prompt; some completions have ended before the cut and leave the batch there."""
    engine, _ = brief(spec)
    given = requests(engine, 3, 3, images=spec != "tiny:llama")
    whole = dict(engine.sample(given, sampling(temperature)))
    if temperature:
        assert len({len(s.token_ids) for samples in whole.values() for s in samples}) > 1
    for t in range(NEW + 1):
        going = cut(given, whole, lambda t=t: t)
        assert dict(engine.sample(going, sampling(temperature))) == rest(going, whole)


def sliding() -> Policy:
    """A model that sees the last four positions only, with llama's processor."""
    held = copy.copy(policy("tiny:llama"))
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vocabulary = {"vocab_size": held.processor.vocab_size, "num_key_value_heads": 1}
    torch.manual_seed(0)
    config = AutoConfig.for_model("mistral", sliding_window=4, **sizes, **vocabulary)
    held.model = AutoModelForCausalLM.from_config(config).eval()
    return held


@pytest.mark.parametrize("cache", ["copied", "sliding"])
def test_copies_of_the_prompt_go_on_as_well(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a prompt's cache is not shared, and where it forgets."""
    monkeypatch.setitem(FAMILIES, "qwen2_5_vl", replace(FAMILIES["qwen2_5_vl"], unshared="its layers alternate"))
    engine = TransformersEngine(sliding() if cache == "sliding" else policy(TINY[0]), "t", 65536)
    assert engine.notice() is not None
    given = requests(engine, 3, 2, images=cache != "sliding")
    whole = dict(engine.sample(given, sampling()))
    for t in (1, 4, NEW):
        going = cut(given, whole, lambda t=t: t)
        assert dict(engine.sample(going, sampling())) == rest(going, whole)


def test_cuts_of_every_length_together_and_other_batches_change_no_id() -> None:
    engine = TransformersEngine(policy(TINY[0]), "t", 65536)
    given = requests(engine, 4, 2)
    whole = dict(engine.sample(given, sampling()))
    rng = random.Random(3)
    going = cut(given, whole, lambda: rng.randrange(NEW + 1))
    expected = rest(going, whole)
    for budget in (65536, 120):
        rng.shuffle(going)
        found = dict(TransformersEngine(policy(TINY[0]), "t", budget).sample(going, sampling()))
        for ident, samples in found.items():
            for one, other in zip(samples, expected[ident], strict=True):
                assert (one.token_ids, one.finish_reason) == (other.token_ids, other.finish_reason)
                assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_the_fake_engine_goes_on_from_every_cut_of_fifty_completions() -> None:
    engine, long = fake(), sampling(new=60)
    given = requests(engine, 25, 2, images=False)
    whole = dict(engine.sample(given, long))
    for t in range(61):
        going = cut(given, whole, lambda t=t: t)
        assert dict(engine.sample(going, long)) == rest(going, whole)
    # Whatever stands before, the next token is that of its place.
    edited = [replace(r, prefix_ids=[[65] * 4] * 2) for r in given]
    found = dict(engine.sample(edited, long))
    assert all(
        f.token_ids == (w.token_ids[4:] or [256]) for i in found for f, w in zip(found[i], whole[i], strict=True)
    )


@pytest.mark.parametrize("spec", ["fake", "tiny:qwen2_5_vl"])
def test_an_edited_prefix_is_kept_and_limits_bound_what_comes_now(spec: str) -> None:
    engine = fake() if spec == "fake" else TransformersEngine(policy(spec), "t", 65536)
    (request,) = requests(engine, 1, 4, images=False)
    prefix = [ord(c) for c in "other"]
    going = replace(request, prefix_ids=[prefix, [], prefix, prefix], limits=[2, 3, 0, 30])
    (found,) = dict(engine.sample([going], sampling(new=4))).values()
    assert [len(s.token_ids) for s in found[:3]] == [2, 3, 0]
    assert [s.finish_reason for s in found[:3]] == ["length"] * 3
    assert len(found[3].token_ids) > 4
    assert all(len(s.token_ids) == len(s.logprobs) for s in found)
    # Without limits `max_new_tokens` bounds the prefix and what follows it together.
    (found,) = dict(engine.sample([replace(going, limits=[])], sampling(new=6))).values()
    assert [len(s.token_ids) for s in found] == [1, 6, 1, 1]
    with pytest.raises(ValueError, match="prompt prompt0: 2 prefixes for 4 samples"):
        replace(request, prefix_ids=[[], []])


def test_a_stop_text_ends_a_completion_whose_ids_stay_as_they_were_sampled() -> None:
    engine = TransformersEngine(policy(TINY[0]), "t", 65536)
    given = requests(engine, 3, 3)
    whole = dict(engine.sample(given, sampling()))
    text = engine.decode(whole["prompt0"][0].token_ids[2:6])
    # From inside a token to inside another.
    stop = text[1:-1]
    found = dict(engine.sample(given, sampling(stop=["no such text", stop])))
    first = found["prompt0"][0]
    assert (first.finish_reason, first.stopped_by) == (FinishReason.STOP, stop)
    assert stop in engine.decode(first.token_ids)
    assert stop not in engine.decode(first.token_ids[:-1])
    for ident, samples in found.items():
        for one, other in zip(samples, whole[ident], strict=True):
            assert one.token_ids == other.token_ids[: len(one.token_ids)]
            assert one.stopped_by or one.token_ids == other.token_ids
    # Cut inside the text it ends where it ended; cut behind it the text is old, and the completion goes on.
    length = len(first.token_ids)
    for t in range(length + 1):
        (going,) = cut(given[:1], {"prompt0": found["prompt0"][:1] + whole["prompt0"][1:]}, lambda t=t: t)
        again = dict(engine.sample([going, *given[1:]], sampling(stop=[stop])))["prompt0"][0]
        ids = going.prefix_ids[0] + again.token_ids
        assert (ids == first.token_ids and again.stopped_by == stop) if t < length else len(ids) > length


class Vllm:
    """What the engine asks of vLLM: each request is answered with the ids that follow its prompt in `rows`."""

    max_positions = 4096

    def __init__(self, rows: list[list[int]], eos: int) -> None:
        self.rows, self.eos = rows, eos
        self.params: list[SimpleNamespace] = []

    def generate(self, prompts: list[dict[str, Any]], params: list[SimpleNamespace]) -> list[SimpleNamespace]:
        self.params += params
        return [self._answer(p["prompt_token_ids"], q) for p, q in zip(prompts, params, strict=True)]

    def _answer(self, prompt: list[int], params: SimpleNamespace) -> SimpleNamespace:
        row = next(row for row in self.rows if row[: len(prompt)] == prompt)
        ids = row[len(prompt) :][: params.max_tokens]
        reason = "stop" if ids[-1] == self.eos else "length"
        logprobs = SimpleNamespace(logprobs=[-float(len(prompt) + at) for at in range(len(ids))])
        output = SimpleNamespace(token_ids=ids, logprobs=logprobs, finish_reason=reason, stop_reason=None)
        return SimpleNamespace(prompt_token_ids=prompt, outputs=[output])


def test_vllm_is_asked_for_what_follows_prompt_and_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """No vLLM: what it is told, that a finished prefix is not asked about, and a stop text across the prefix's end."""
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=SimpleNamespace))
    processor = policy(TINY[0]).processor
    eos = processor.eos_token_ids[0]
    words = processor.encode_completion("red circles and blue squares")[:-1]
    prompt_ids = processor.encode(*prompt(0)).token_ids
    session = Vllm([[*prompt_ids, *words, eos]], eos)
    engine = VllmEngine(session, processor, "vllm/1")  # type: ignore[arg-type]
    request = SampleRequest("p", prompt_ids, {}, 4, prefix_ids=[[], words[:2], [*words, eos], words[:3]])
    (found,) = dict(engine.sample([request], sampling(new=len(words) + 1))).values()
    rests = [[*words, eos], [*words[2:], eos], [], [*words[3:], eos]]
    assert [s.token_ids for s in found] == rests
    assert [s.finish_reason for s in found] == ["stop"] * 4
    assert [s.logprobs for s in found] == [
        [-float(len(prompt_ids) + len(words) + 1 - k) for k in range(len(r), 0, -1)] for r in rests
    ]
    assert [p.max_tokens for p in session.params] == [len(words) + 1, len(words) - 1, len(words) - 2]
    assert [p.seed for p in session.params] == [sampler_seed(7, "p", i, at) for i, at in ((0, 0), (1, 2), (3, 3))]
    assert [p.detokenize for p in session.params] == [False] * 3
    # Greedy samples that begin alike are one request, others are not.
    session.params.clear()
    dict(engine.sample([replace(request, prefix_ids=[])], sampling(0.0)))
    dict(engine.sample([request], sampling(0.0)))
    assert len(session.params) == 1 + 3
    session.params.clear()
    text = engine.decode(words[:4])[-4:]
    (found,) = dict(engine.sample([request], sampling(new=9, stop=[text]))).values()
    assert [s.token_ids for s in found] == [words[:4], words[2:4], [], words[3:4]]
    assert [s.stopped_by for s in found] == [text, text, None, text]
    assert {(tuple(p.stop), p.include_stop_str_in_output, p.detokenize) for p in session.params} == {
        ((text,), True, True)
    }


# -- the texts themselves ------------------------------------------------------------------------------------

PIECES = ["", "a", "b", "ab", "ba", "aba", " ", "é"[:1], "é".encode(), b"\xc3", b"\xa9", "x"]


def decode(ids: list[int]) -> str:
    """Some tokens of several characters, one of none, and two that are halves of one."""
    found = (PIECES[i] for i in ids)
    return b"".join(p if isinstance(p, bytes) else p.encode() for p in found).decode(errors="replace")


@pytest.mark.parametrize(
    ("texts", "ids", "text"),
    [
        (["ab"], [1, 2], "ab"),
        (["ab"], [1, 3], "ab"),  # a|ab: the old part alone is none
        (["ab"], [3, 11], None),  # finished one token before
        (["ab"], [3, 0], None),  # a token without text finishes nothing
        (["b"], [5], "b"),  # inside the token
        (["ba", "ab"], [5], "ab"),  # aba: which ends first
        (["b", "ab"], [3], "b"),  # both end there: which is named first
        (["bb"], [3, 2], "bb"),
        (["aa", "aba"], [3, 1], "aba"),
        (["éx"], [9, 10, 11], "éx"),  # halves of a character
        (["é"], [9, 10], "é"),
        (["é"], [9], None),
        (["x"], [9, 11], "x"),
        ([], [1, 2], None),
    ],
)  # fmt: skip
def test_which_text_the_last_token_finishes(texts: list[str], ids: list[int], text: str | None) -> None:
    assert StopStrings(texts, decode).ended_by(ids) == text


def test_texts_are_found_token_by_token_as_in_the_whole_text() -> None:
    """Against the plain search, in a thousand drawn rows; a window is enough, and what was before the start is old."""
    rng = random.Random(0)
    for _ in range(1000):
        texts = ["".join(rng.choices("ab ", k=rng.randint(1, 4))) for _ in range(rng.randint(1, 3))]
        ids, start = rng.choices(range(7), k=rng.randint(0, 60)), rng.randint(0, 5)
        found = StopStrings(texts, decode).first(ids, start)
        known = len(decode(ids[:start]))
        whole = decode(ids)
        ends = [e for t in texts for e in range(known + 1, len(whole) + 1) if whole[:e].endswith(t)]
        if not ends:
            assert found is None
            continue
        assert found is not None
        assert len(decode(ids[: found[0] - 1])) < min(ends) <= len(decode(ids[: found[0]]))
        assert whole[: min(ends)].endswith(found[1])


def test_a_completion_is_cut_behind_the_token_in_which_the_text_ends() -> None:
    stops = StopStrings(["ab"], decode)
    sampled = SampledCompletion([2, 11, 5, 11], [-1.0, -2.0, -3.0, -4.0], FinishReason.LENGTH)
    assert stops.cut([1], sampled) == SampledCompletion([2], [-1.0], FinishReason.STOP, stopped_by="ab")
    assert stops.cut([2], sampled) == SampledCompletion(
        [2, 11, 5], [-1.0, -2.0, -3.0], FinishReason.STOP, stopped_by="ab"
    )
    assert stops.cut([2], replace(sampled, token_ids=[2, 11, 11, 2])).finish_reason == FinishReason.LENGTH


def test_a_sampler_with_noise_of_its_own_gets_another_seed_at_every_position() -> None:
    assert sampler_seed(7, "p", 1) == sample_key(7, "p", 1) & ((1 << 31) - 1) == sampler_seed(7, "p", 1, 0)
    assert len({sampler_seed(7, "p", k, at) for k in range(3) for at in range(40)}) == 120
