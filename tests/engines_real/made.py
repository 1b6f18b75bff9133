"""Requests, and what transformers says about the completions."""

from __future__ import annotations

from pathlib import Path

import torch

from schemas.rollouts import Sampling
from schemas.values import Image, Message, text_message
from stages.engines.base import Engine, EngineSettings, SampledCompletion, SampleRequest
from stages.models.load import Policy, load_policy, save_policy
from stages.models.policy_ref import resolve_policy
from tests.models.made import image, prompt

SIZES = [(84, 84), (140, 56)]
SETTINGS = EngineSettings(device="cpu")


def conversation(seed: int, images: int) -> tuple[list[Message], list[Image]]:
    """Words over no image, one, or two of two sizes."""
    words = prompt(seed)[0][0].content[-1].text
    return [text_message("user", str(words), images)], [image(*SIZES[i], seed + i) for i in range(images)]


def requests(engine: Engine, count: int, n: int, vision: bool = True) -> list[SampleRequest]:
    """Prompts with 0, 1, 2, 0, ... images."""
    made = []
    for seed in range(count):
        messages, images = conversation(seed, (seed % 3) * vision)
        encoded = engine.encode(messages, images)
        made.append(SampleRequest(f"prompt{seed}", encoded.token_ids, encoded.image_inputs, n, messages, images))
    return made


def sampling(temperature: float = 1.0, new: int = 16, seed: int = 7) -> Sampling:
    return Sampling(temperature, 1.0, 0, new, seed)


def forced(policy: Policy, request: SampleRequest, completion: list[int], temperature: float) -> list[float]:
    """A completion's log-probs by one plain forward in float64, banned ids out, at the sampler's temperature."""
    image_inputs = policy.processor.encode(request.messages, request.images).image_inputs
    batch = policy.processor.batch([[*request.token_ids, *completion]], [image_inputs])
    with torch.no_grad():
        logits = policy.model(**batch).logits[0, len(request.token_ids) - 1 : -1].double()
    logits[:, policy.processor.banned_token_ids] = -torch.inf
    logprobs = torch.log_softmax(logits / (temperature or 1.0), -1)
    return logprobs.gather(-1, torch.tensor(completion)[:, None])[:, 0].tolist()


def largest_gap(
    policy: Policy, asked: list[SampleRequest], given: dict[str, list[SampledCompletion]], temperature: float
) -> float:
    """The largest difference between the sampler's log-probs and those of a forward over its completions."""
    gaps = [
        abs(mine - theirs)
        for request in asked
        for sample in given[request.id]
        for mine, theirs in zip(sample.logprobs, forced(policy, request, sample.token_ids, temperature), strict=True)
    ]
    return max(gaps)


def nudged(spec: str, folder: Path, seed: int) -> Policy:
    """A policy of the same architecture with other weights, saved."""
    policy = load_policy(resolve_policy(spec), device="cpu")
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    save_policy(policy.model, policy.processor, folder)
    return load_policy(resolve_policy(str(folder)), device="cpu")
