"""The engine for OpenAI-compatible servers, against one that answers as vLLM's does."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from schemas.rollouts import RolloutGroup, Sampling
from schemas.tables import PROMPTS, ROLLOUTS
from schemas.values import Image, Message, Part, text_message
from stages.core.config import build
from stages.core.errors import BadSample, CosmoError, UnavailableError, UsageError
from stages.core.registry import load
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.runs.shards import ShardFile
from stages.core.stage import Resources
from stages.engines.base import TIMED_OUT, Engine, EngineSettings, SampledCompletion, SampleRequest, ServerTable
from stages.engines.openai.reload import _Endpoints
from stages.engines.openai.wire import data_url
from stages.engines.seeds import sampler_seed
from stages.models.images import decode_image
from stages.rollout.config import RolloutConfig
from stages.rollout.stage import STAGE
from tests.models.made import image, policy, prompt
from tests.support.cli import PATIENCE, complaint, cosmo
from tests.support.server import Body, choice, completion, serving, words_of

TINY = "tiny:qwen2_5_vl"
EOS = policy(TINY).processor.eos_token_ids[0]


def conversation_of(body: Body) -> tuple[list[Message], list[Image]]:
    """What a server understands of a call: the conversation and its images."""
    turns, images = [], []
    for message in body["messages"]:
        parts = message["content"]
        parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
        for part in parts:
            if part["type"] == "image_url":
                images.append(Image(base64.b64decode(part["image_url"]["url"].partition(",")[2])))
        turns.append(
            Message(message["role"], [Part("text", p["text"]) if "text" in p else Part("image") for p in parts])
        )
    return turns, images


def vllm(change: Callable[[Body], Body] = lambda answer: answer) -> Callable[[Body, int], Body]:
    """Ids that depend on the seed alone, the prompt's ids expanded, one log-prob an id."""

    def answer(body: Body, nth: int) -> Body:
        seed = body["seed"] if body["temperature"] > 0 else 7
        ids = [10 + seed % 89, 10 + seed % 83, 10 + seed % 79, EOS]
        entries = [{"token": f"t{i}", "logprob": -i / 100, "bytes": None, "top_logprobs": []} for i in ids]
        text = policy(TINY).processor.decode(ids)
        prompt_ids = policy(TINY).processor.encode(*conversation_of(body)).token_ids
        made = completion(choice(text, logprobs={"content": entries}, token_ids=ids), prompt_token_ids=prompt_ids)
        return change(made)

    return answer


def engine(url: str, need: str = "words", policy_too: bool = True, **server: Any) -> Engine:
    values = {"url": url, "model": "m", "retries": 0, "timeout_s": PATIENCE, **server}
    settings = EngineSettings(server=build(ServerTable, values, "server"), need=need)
    plugin = load("engine", "openai")
    ref = policy(TINY).ref if need == "ids" and policy_too else None
    opened: Engine = plugin.open(ref, settings, Resources())
    return opened


def ask(opened: Engine, count: int = 1, n: int = 1, temperature: float = 1.0) -> dict[str, list[SampledCompletion]]:
    requests = []
    for number in range(count):
        messages = [text_message("user", f"question {number} ?")]
        encoded = opened.encode(messages, [])
        requests.append(SampleRequest(f"p{number}", encoded.token_ids, encoded.image_inputs, n, messages, []))
    return dict(opened.sample(requests, Sampling(temperature, 1.0, 0, 8, 3)))


# -- going on from token ids ---------------------------------------------------------------------------------


def goes_on(body: Body, nth: int) -> Body:
    """vLLM's completions from token ids: the ids 30, 31, ... by place, and the end where a twelfth would be."""
    prompt_ids = body["prompt"]
    ids = [*range(30, 41), EOS][: body["max_tokens"]]
    told = {"tokens": [f"t{i}" for i in ids], "token_logprobs": [-i / 100 for i in ids]}
    more = {"logprobs": told, "token_ids": ids, "prompt_token_ids": prompt_ids, "stop_reason": None}
    reason = "stop" if ids[-1] == EOS else "length"
    return completion({"index": 0, "finish_reason": reason, "text": "", **more})


def continued(url: str, prefixes: list[list[int]], stop: list[str], images: int = 0, **more: Any) -> Any:
    opened = engine(url, **{"need": "ids", **more})
    messages, pictures = prompt(1, images)
    ids = opened.encode(messages, pictures).token_ids
    request = SampleRequest("p", ids, {}, len(prefixes), messages, pictures, prefix_ids=prefixes)
    return request, dict(opened.sample([request], Sampling(1.0, 1.0, 0, 8, 3, stop)))["p"]


def test_a_completion_goes_on_from_ids_and_ends_at_a_stop_text() -> None:
    processor = policy(TINY).processor
    text = processor.decode([21, 30, 31])[1:]
    with serving(goes_on) as server:
        request, found = continued(server.url, [[20, 21], [20, EOS], [22]], [])
        _, stopped = continued(server.url, [[20, 21], [20, EOS], [22] * 8], [text])
        # Those of one request come in any order.
        calls = sorted(server.calls[:2], key=lambda call: -len(call["prompt"])) + server.calls[2:]
    # What has ended is not asked for.
    assert [c["prompt"] for c in calls] == [request.token_ids + p for p in ([20, 21], [22], [20, 21])]
    assert [(c["max_tokens"], c["logprobs"]) for c in calls] == [(6, 1), (7, 1), (6, 1)]
    assert calls[0]["seed"] == sampler_seed(3, "p", 0, 2)
    assert [s.token_ids for s in found] == [list(range(30, 36)), [], list(range(30, 37))]
    assert [s.finish_reason for s in found] == ["length", "stop", "length"]
    assert found[0].logprobs == [-i / 100 for i in range(30, 36)]
    assert ["stop" in c for c in calls] == [False, False, True]
    assert calls[2]["include_stop_str_in_output"] is True
    # It began in the prefix, which the server does not look at.
    assert [(s.token_ids, s.stopped_by) for s in stopped] == [([30, 31], text), ([], None), ([], None)]
    assert [s.finish_reason for s in stopped] == ["stop", "stop", "length"]


def test_what_a_server_can_not_go_on_from_is_refused() -> None:
    with serving(lambda body, nth: "missing") as server:
        with pytest.raises(UnavailableError, match="no completions that go on from token ids: HTTP 404"):
            continued(server.url, [[20]], [])
        with pytest.raises(UsageError, match="has images, and a server goes on from token ids of words alone"):
            continued(server.url, [[20]], [], images=1)
        with pytest.raises(UsageError, match="token ids that it has no tokenizer for"):
            continued(server.url, [[20]], [], need="words")
        assert len(server.calls) == 1


# -- rollouts ------------------------------------------------------------------------------------------------


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = ShardFile(tmp_path / "00000.parquet", PROMPTS)
    for number in range(6):
        messages, images = prompt(number, number % 3)
        key = prompt_id(label="general", messages=messages, images=images, answer=None)
        file.add(PromptRow(id=key, label="general", source="made", task="made", messages=messages, images=images))
    file.close()
    return tmp_path / "00000.parquet"


def rollout(upstream: Path, runs: Path, url: str, **more: Any) -> RunFolder:
    server = {"url": url, "retries": 0, "timeout_s": PATIENCE, **more.pop("server", {})}
    values = {"policy": TINY, "engine": "openai", "samples": 3, "max_new_tokens": 8, "server": server, **more}
    result = run_stage(STAGE, build(RolloutConfig, values, "rollout"), [upstream], options=Options(runs=runs))
    return RunFolder.open(result.path)


def test_rollouts_hold_what_the_server_sampled(prompts: Path, tmp_path: Path) -> None:
    with serving(vllm()) as server:
        folder = rollout(prompts, tmp_path / "runs", server.url)
        calls = list(server.calls)
        # Another way to reach it, and fewer calls at a time, is the same run with the same rows.
        same = rollout(prompts, tmp_path / "b", server.url + "/", server={"concurrency": 1, "model": TINY})
    assert len(calls) == 18
    assert len({c["seed"] for c in calls}) == 18
    assert same.fingerprint == folder.fingerprint
    groups: list[RolloutGroup] = list(folder.rows(ROLLOUTS))
    assert groups == list(same.rows(ROLLOUTS))
    processor = policy(TINY).processor
    for group in groups:
        assert group.prompt_token_ids == processor.encode(group.messages, group.images).token_ids
        assert group.banned_token_ids == processor.banned_token_ids
        assert len({tuple(c.token_ids) for c in group.completions}) == 3
        for done in group.completions:
            assert done.token_ids[-1] == EOS
            assert done.logprobs == pytest.approx([-i / 100 for i in done.token_ids])
            assert done.text == processor.decode(done.token_ids)
            assert (done.engine, done.finish_reason, done.policy_id) == ("openai/1", "stop", policy(TINY).ref.id)
    call = calls[0]
    assert call["logit_bias"] == {str(i): -100 for i in processor.banned_token_ids}
    # Nothing is left for the server to fill from a generation_config.json.
    assert {k: call[k] for k in ("top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "n")} == {
        "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "n": 1,
    }  # fmt: skip
    assert (call["max_tokens"], call["logprobs"], call["return_token_ids"], call["model"]) == (8, True, True, TINY)


def test_a_greedy_prompt_is_asked_once(prompts: Path, tmp_path: Path) -> None:
    with serving(vllm()) as server:
        folder = rollout(prompts, tmp_path / "runs", server.url, temperature=0.0)
        assert len(server.calls) == 6
    for group in folder.rows(ROLLOUTS):
        assert [c.index for c in group.completions] == [0, 1, 2]
        assert len({tuple(c.token_ids) for c in group.completions}) == 1


def collapsed(answer: Body) -> Body:
    """As versions do that give the prompt before its images are expanded."""
    image, ids = policy(TINY).processor.image_token_id, answer["prompt_token_ids"]
    return {**answer, "prompt_token_ids": [t for n, t in enumerate(ids) if t != image or n == 0 or ids[n - 1] != t]}


def test_the_servers_prompt_has_to_be_ours(prompts: Path, tmp_path: Path) -> None:
    with serving(vllm(collapsed)) as server:
        assert rollout(prompts, tmp_path / "a", server.url).complete
    with serving(vllm(lambda answer: {**answer, "prompt_token_ids": answer["prompt_token_ids"][:-1]})) as server:
        with pytest.raises(CosmoError, match="is it the same model"):
            rollout(prompts, tmp_path / "b", server.url, server={"retries": 3})
        assert len(server.calls) == 18  # asking again would not help


def test_a_server_without_token_ids_can_not_serve_training(prompts: Path, tmp_path: Path) -> None:
    def plain(answer: Body) -> Body:
        return {**answer, "choices": [{k: v for k, v in answer["choices"][0].items() if k != "token_ids"}]}

    with serving(vllm(plain)) as server:
        arguments = ["rollout", prompts, "--engine", "openai", "--set", f"server.url={server.url}"]
        done = cosmo(*arguments, "--policy", TINY, "--samples", 2, cwd=tmp_path)
        assert done.returncode == 4
        message, hint = complaint(done)
        assert "training needs the ids" in message
        assert "vLLM" in hint
        done = cosmo(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert "--policy" in complaint(done)[1]


def test_one_bad_completion_is_a_completion_that_says_so(prompts: Path, tmp_path: Path) -> None:
    good = vllm()

    def sometimes(body: Body, nth: int) -> Body | str:
        answer = good(body, nth)
        if body["seed"] % 3 == 0:
            answer["choices"][0]["logprobs"]["content"].pop()
        elif body["seed"] % 3 == 1:
            answer["choices"][0]["logprobs"]["content"][0]["logprob"] = float("nan")
        return answer

    with serving(sometimes) as server:
        folder = rollout(prompts, tmp_path / "runs", server.url)
        kinds = sorted(c["seed"] % 3 for c in server.calls)
    done = [c for group in folder.rows(ROLLOUTS) for c in group.completions]
    errors = [c for c in done if c.finish_reason == "error"]
    assert len(errors) == sum(k < 2 for k in kinds)
    assert 0 < len(errors) < len(done)
    assert all(c.token_ids == [] and c.logprobs == [] for c in errors)
    assert {c.error for c in errors} <= {
        "malformed answer: 4 token ids and 3 log-probs",
        "malformed answer: a log-prob is not finite",
    }


# -- calls ---------------------------------------------------------------------------------------------------


def test_calls_are_bounded_and_all_answered() -> None:
    lock, now, most = threading.Lock(), [0], [0]
    together = threading.Barrier(4, timeout=PATIENCE)

    def slow(body: Body, nth: int) -> Body:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        # No call is answered before four are under way. The pause is for calls that must not come.
        together.wait()
        time.sleep(0.03)
        with lock:
            now[0] -= 1
        return completion(choice(words_of(body)))

    with serving(slow) as server:
        out = ask(engine(server.url, concurrency=4), count=12, n=2)
    assert most[0] == 4
    assert {k: [s.words for s in v] for k, v in out.items()} == {f"p{n}": [[f"question {n} ?"]] * 2 for n in range(12)}


def test_requests_are_taken_as_calls_get_free() -> None:
    """So that whoever asks can stop asking: a budget, a server that is gone."""
    taken = []

    def requests() -> Any:
        for number in range(50):
            taken.append(number)
            messages = [text_message("user", f"question {number} ?")]
            yield SampleRequest(f"p{number}", [], {}, 1, messages, [])

    with serving(lambda body, nth: completion(choice("yes"))) as server:
        completions = engine(server.url, concurrency=3).sample(requests(), Sampling(1.0, 1.0, 0, 8, 0))
        next(completions)
        assert len(taken) == 3
        completions.close()
        assert len(server.calls) <= 3


def test_busy_servers_are_given_the_time_they_ask_for() -> None:
    with serving(lambda body, nth: "busy" if nth < 2 else completion(choice("yes"))) as server:
        (answer,) = ask(engine(server.url, retries=3))["p0"]
        first, second, third = server.times
    assert answer.words == ["yes"]
    assert second - first >= 0.4  # Retry-After
    assert third - second >= 0.5  # the doubled pause is longer than that, with jitter at least half of it


@pytest.mark.parametrize(
    ("how", "tries", "said"),
    [
        ("broken", 3, "HTTP 500: out of luck"),
        ("refuses", 1, "HTTP 400: the prompt is too long"),
        ("forbids", 1, "HTTP 401"),
        ("drop", 3, "no connection"),
        ("half", 3, "not JSON"),
    ],
)
def test_what_is_tried_again(how: str, tries: int, said: str) -> None:
    with serving(lambda body, nth: how) as server:
        (answer,) = ask(engine(server.url, retries=2))["p0"]
        assert len(server.calls) == tries
    assert (answer.finish_reason, answer.token_ids, answer.words) == ("error", [], None)
    assert said in (answer.error or "")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_is_sent_where_a_server_points(status: int) -> None:
    """Prompts and images are for the server that a person named: neither posted elsewhere nor fetched from there."""
    theirs = serving(lambda body, nth: completion(choice("theirs")))
    with theirs as other, serving(lambda body, nth: "redirects") as server:
        server.redirect = (status, f"{other.url}/chat/completions")
        (answer,) = ask(engine(server.url, retries=2))["p0"]
        with pytest.raises(UnavailableError, match=f"answers {status} to /v1/load_lora_adapter"):
            _Endpoints(EngineSettings(server=build(ServerTable, {"url": server.url}, "server")), "m", "a key").post(
                "v1/load_lora_adapter", {}
            )
        assert (other.calls, other.fetched, len(server.calls)) == ([], [], 2)
    assert answer.error == f"HTTP {status}: the server points elsewhere, and redirects are not followed"


@pytest.mark.parametrize("how", ["stall", "drip"])
def test_a_call_has_only_so_much_time(how: str) -> None:
    """A body that trickles in keeps every single read short, and is cut off all the same: each try by itself."""
    with serving(lambda body, nth: how) as server:
        (answer,) = ask(engine(server.url, timeout_s=0.5, retries=1))["p0"]
        assert len(server.calls) == 2
        # No try is left hanging: the server would answer it for ever.
        assert all(server.hung_up.acquire(timeout=PATIENCE) for _ in server.calls)
    assert answer.error == f"{TIMED_OUT} after 0.5 s"


@pytest.mark.parametrize(
    "answer",
    [
        completion(),
        completion(choice("a"), choice("b")),
        {"choices": {"0": choice("a")}},
        {"choices": ["a"]},
        {"choices": [{"index": 0}]},
        {"choices": [{"message": {"content": ["a"]}}]},
        {},
        {"error": {"message": "no"}},
    ],
    ids=json.dumps,
)
def test_answers_of_another_shape(answer: Body) -> None:
    with serving(lambda body, nth: answer) as server:
        (answer,) = ask(engine(server.url))["p0"]
    assert answer.finish_reason == "error"
    assert (answer.error or "").startswith("malformed answer")


# -- images and settings -----------------------------------------------------------------------------------


def test_images_arrive_as_every_engine_sees_them() -> None:
    plain = image(40, 20, kind="JPEG")
    kind, _, content = data_url(plain).partition(",")
    assert kind == "data:image/jpeg;base64"
    assert base64.b64decode(content) == plain.bytes
    turned = io.BytesIO()
    exif = Pillow.Exif()
    exif[0x0112] = 6
    decode_image(plain).save(turned, "JPEG", exif=exif, quality=95)
    for other in (image(40, 20, mode="RGBA"), image(40, 20, mode="L"), Image(turned.getvalue())):
        kind, _, content = data_url(other).partition(",")
        assert kind == "data:image/png;base64"
        with Pillow.open(io.BytesIO(base64.b64decode(content))) as sent:
            assert sent.mode == "RGB"
            assert sent.tobytes() == decode_image(other).tobytes()
    with pytest.raises(BadSample, match="bad_image"):
        engine("http://127.0.0.1:1/v1").encode([text_message("user", "x", 1)], [Image(b"no picture")])


@pytest.mark.parametrize(
    ("server", "need", "kind", "word"),
    [
        ({"url": ""}, "words", UsageError, "no url"),
        ({"url": "there:8000"}, "words", UsageError, "there:8000"),
        ({"url": "http://me:hush@there/v1"}, "words", UsageError, "there"),
        ({"url": "http://there/v1?key=hush"}, "words", UsageError, "there"),
        ({"url": "http://[there/v1"}, "words", UsageError, "not an address"),
        ({"url": "http://there:99999999/v1"}, "words", UsageError, "not an address"),
        ({"model": ""}, "words", UsageError, "which model"),
        ({"api_key_env": "NO_SUCH_VARIABLE"}, "words", UnavailableError, "NO_SUCH_VARIABLE"),
        ({}, "ids", UsageError, "training needs them"),
    ],
)
def test_settings_that_can_not_be(server: dict[str, str], need: str, kind: type[CosmoError], word: str) -> None:
    with pytest.raises(kind, match=word) as caught:
        engine(need=need, policy_too=False, **{"url": "http://there/v1", **server})
    assert "hush" not in caught.value.message + caught.value.hint
