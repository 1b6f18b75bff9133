"""The processor that takes out banned tokens, before vLLM's own loaders: V1's, and V2's, which every GPU has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import LogitsProcessor, build_logitsprocs, validate_logits_processors_parameters
from vllm.v1.worker.gpu.sample.logits_processor import (
    build_custom_logits_processors,
    build_custom_logits_processors_params_validator,
)

from stages.engines.vllm.arguments import arguments
from stages.engines.vllm.banned_tokens import BANNED
from tests.engines_real.made import SETTINGS
from tests.models.made import policy


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """What the engine hands to vLLM."""
    processor = policy("tiny:llama").processor
    assert processor.banned_token_ids
    return arguments(SETTINGS, {}, processor, 64)


def test_both_front_ends_take_it(given: dict[str, Any]) -> None:
    """V2's refuses any class that is not of its own base, before a weight is read: no rollout would start on a GPU."""
    names = given["logits_processors"]
    build_custom_logits_processors_params_validator(names)(SamplingParams())
    validate_logits_processors_parameters(names, SamplingParams())


def test_v2s_loader_refuses_v1s_class_so_the_test_above_could_fail() -> None:
    with pytest.raises((ValueError, VLLMValidationError), match="not a subclass"):
        build_custom_logits_processors_params_validator([LogitsProcessor])


def test_both_runners_make_it_and_it_takes_out_the_banned_ids_alone(given: dict[str, Any]) -> None:
    """As each runner makes and calls it: V1 with a device, V2 with the requests' state and a context."""
    banned, size = given["additional_config"][BANNED], policy("tiny:llama").processor.vocab_size
    config: Any = SimpleNamespace(
        additional_config=given["additional_config"],
        scheduler_config=SimpleNamespace(max_num_seqs=4),
        speculative_config=None,
    )
    names = ("device", "max_num_reqs", "vocab_size", "all_token_ids", "prompt_len", "prefill_len", "total_len")
    requests: Any = SimpleNamespace(**dict.fromkeys(names))
    requests.device = torch.device("cpu")
    (second,) = build_custom_logits_processors(config, requests, False, given["logits_processors"])
    made = build_logitsprocs(config, torch.device("cpu"), False, False, given["logits_processors"])
    (first,) = [p for p in made.all if type(p).__name__ == type(second).__name__]
    assert first in list(made.non_argmax_invariant)
    assert second.add_request(0, SamplingParams()) is True
    second.apply_staged_writes()
    drawn = torch.randn(3, size, generator=torch.Generator().manual_seed(1))
    context: Any = object()
    for out in (first.apply(drawn.clone()), second.apply(drawn.clone(), context)):
        assert torch.equal(out.isinf().nonzero()[:, 1].unique(), torch.tensor(sorted(banned)))
        kept = ~out.isinf()
        assert torch.equal(out[kept], drawn[kept])
