"""Does a running vLLM say what the policy says? Fixed prompts, with and without an image, and fixed completions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from stages.models.images import decode_image
from stages.models.probe import gaps, probe_image

if TYPE_CHECKING:
    from stages.models.load import Policy
    from stages.models.policy_ref import PolicyRef
    from stages.models.probe import Probe
    from stages.models.processor import PromptProcessor

# Of log-probs of unlikely tokens. float32 agrees to 2e-5; an old head under new weights is off by about 1. In half
# precision single tokens are far off, so there the mean counts. Weights that were not taken at all are seen otherwise:
# they say the very same as before.
_LARGEST_GAP, _MEAN_GAP_HALF = 1e-3, 0.25
# Bytes of a policy that the CPU's memory is to hold at a time; what is less lies there whole.
_ROOM = 8 << 30


def ask(llm: Any, probes: list[Probe], processor: PromptProcessor) -> list[list[float]]:
    """vLLM's log-probs of the probes' completions; nothing for a prompt that it reads otherwise."""
    from vllm import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
    prompts = [_prompt(probe, processor) for probe in probes]
    answers = []
    for probe, output in zip(probes, llm.generate(prompts, params, use_tqdm=False), strict=True):
        same = list(output.prompt_token_ids) == probe.token_ids + probe.completion_ids
        given = output.prompt_logprobs[len(probe.token_ids) :] if same else []
        answers.append([at[token].logprob for token, at in zip(probe.completion_ids, given, strict=same)])
    return answers


def expected(ref: PolicyRef, dtype: str, trust: bool, warm: Policy | None) -> list[Probe]:
    """What transformers says about the probes; on the CPU, unless the policy is loaded already.

    Of a large policy a few layers at a time are in memory.
    """
    from stages.models.load import load_within
    from stages.models.probe import make_probes

    if warm is not None:
        return make_probes(warm)
    with TemporaryDirectory(prefix="cosmo-") as scratch:
        return make_probes(load_within(ref, _ROOM, Path(scratch), dtype=dtype, trust_remote_code=trust))


def distance(probes: list[Probe], answers: list[list[float]], dtype: str) -> float:
    """How far apart, as a multiple of what is allowed; infinite where a prompt was read otherwise."""
    if any(len(probe.completion_ids) != len(logprobs) for probe, logprobs in zip(probes, answers, strict=True)):
        return float("inf")
    found = [dataclasses.replace(probe, logprobs=logprobs) for probe, logprobs in zip(probes, answers, strict=True)]
    mean, largest = gaps(probes, found)
    return largest / _LARGEST_GAP if dtype == "float32" else mean / _MEAN_GAP_HALF


def _prompt(probe: Probe, processor: PromptProcessor) -> dict[str, Any]:
    ids = processor.renderer_ids(probe.token_ids + probe.completion_ids)
    images = {"image": [decode_image(probe_image())]}
    return {"prompt_token_ids": ids, **({"multi_modal_data": images} if probe.image else {})}
