"""Servers that misbehave: a judge's and a sampler's, half of their answers wrong in some way; then one that is well."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.campaign.chain import Faults, call, fresh
from tests.campaign.damage import change
from tests.engines.test_openai import vllm
from tests.support.server import Body, choice, completion, serving

KEY = "sk-campaign-never-seen"
POLICY = "tiny:qwen2_5_vl"
CONNECTIONS = (
    "stall", "drip", "rubbish", "half", "cut", "drop", "busy", "broken", "refuses", "redirects", "missing", "forbids",
)  # fmt: skip
Answer = Callable[[Body, int], Any]


def servers(reference: Path, commands: dict[str, list[str]], count: int, rng: random.Random, faults: Faults) -> int:
    """Have `count` commands ask a server that misbehaves, then one that does not; how many were told of it."""
    told = 0
    for number in range(count):
        made = fresh(reference, "served")
        judged = number % 2 == 0
        right = _judges if judged else vllm()
        how, wrong = _way(number // 2, right, rng)
        what = f"server {number}, {how} to a {'judge' if judged else 'rollout'}"
        with serving(lambda body, nth: completion(choice("elsewhere"))) as elsewhere:
            with serving(_half(right, wrong, rng.random())) as server:
                server.redirect = (rng.choice((301, 302, 307, 308)), elsewhere.url + "/chat/completions")
                told += _asked(what, commands, made, server.url, judged, faults)
                server.answer = right
                _asked(f"{what}, then well", commands, made, server.url, judged, faults, patience=60)
            if elsewhere.calls or elsewhere.fetched:
                faults.found.append(f"{what}: asked where the server pointed")
        if holders := [p.name for p in made.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]:
            faults.found.append(f"{what}: the key is in {holders[:3]}")
    return told


def _way(number: int, right: Answer, rng: random.Random) -> tuple[str, Answer]:
    """The n-th way to be wrong: of the connection first, then of what an answer holds."""
    bodies: dict[str, Any] = {
        "no choices": completion(),
        "two choices": completion(choice("Verdict: good"), choice("Verdict: bad")),
        "no text": completion({"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None}}),
        "a number for text": completion(choice(7)),  # type: ignore[arg-type]
        "half an emoji": completion(choice("Verdict: good \ud83d")),
        "much text": completion(choice("good " * 400_000)),
        "a list": [[]],
        "null": None,
        "no numbers": completion(choice("good", logprobs={"content": [{"token": "a", "logprob": float("nan")}]})),
    }
    names = [*CONNECTIONS, *bodies]
    if number < len(names):
        name = names[number]
        return name, lambda body, nth: name if name in CONNECTIONS else bodies[name]
    seed = rng.random()

    def changed(body: Body, nth: int) -> Body:
        answer, own = right(body, nth), random.Random(f"{seed} {body.get('seed')} {nth}")
        for _ in range(2):
            change(answer, own)
        return answer if isinstance(answer, dict) else {}

    return "an answer changed somewhere", changed


def _half(right: Answer, wrong: Answer, seed: float) -> Answer:
    """Every call goes one way or the other by its own, whatever the order in which calls come."""

    def answer(body: Body, nth: int) -> Any:
        return (wrong if random.Random(f"{seed} {body} {nth}").random() < 0.5 else right)(body, nth)

    return answer


def _judges(body: Body, nth: int) -> Body:
    return completion(choice("Verdict: good"))


def _asked(
    what: str, commands: dict[str, list[str]], folder: Path, url: str, judged: bool, faults: Faults, patience: int = 1
) -> bool:
    """Whether the command said that something was wrong; notes what is not so of its rows."""
    given = {"url": url, "model": "made", "retries": 1, "timeout_s": patience, "api_key_env": "CAMPAIGN_KEY"}
    if judged:
        before = call(commands["rollout_fake"], folder).path
        words = ["score", before, *_flags("judges.answer", {**given, "engine": "openai"})]
        expected = 36
    else:
        before = call(commands["prepare"], folder).path
        words = ["rollout", before, "--policy", POLICY, "--engine", "openai", "--samples", "2"]
        words += ["--set", "select.take=6", "--set", "max_new_tokens=8", *_flags("server", given)]
        expected = 12

    def with_key() -> None:
        os.environ["CAMPAIGN_KEY"] = KEY

    said = call([*words, "--runs", "runs"], folder, with_key)
    faults.look(what, said)
    if said.code == 0:
        shards = (folder / said.path / "shards").glob("*.parquet")
        completions = [c for shard in shards for row in pq.read_table(shard).to_pylist() for c in row["completions"]]
        if len(completions) != expected:
            faults.found.append(f"{what}: {len(completions)} completions of {expected}")
    return said.code != 0 or "warning" in said.err


def _flags(table: str, values: dict[str, Any]) -> list[str]:
    return [word for name, value in values.items() for word in ("--set", f"{table}.{name}={value}")]
