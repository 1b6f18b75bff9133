"""A model's own numbers: transformers' `generate` over everything that the family's processor returns.

Positions, masks, kinds of tokens, caches and the order of images are the family's own code here, one prompt at a time
and unpadded; a logits processor leaves it no choice but the given completion.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, LogitsProcessor

from stages.models.forward_inputs import forward_names
from stages.models.images import decode_image
from stages.models.load import Policy, no_report
from stages.train.check.questions import Question

# Asked of no `generate`: what some processors return for a loss or for themselves.
_NOT_GIVEN = ("labels",)


class _Forced(LogitsProcessor):
    """Every token but the next of a completion is impossible."""

    def __init__(self, prompt: int, token_ids: list[int]) -> None:
        self._prompt, self._token_ids = prompt, token_ids

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        only = torch.full_like(scores, float("-inf"))
        only[:, self._token_ids[input_ids.shape[1] - self._prompt]] = 0.0
        return only


def own_logits(policy: Policy, question: Question, token_ids: list[int]) -> tuple[list[int], Tensor]:
    """The prompt's ids as the processor gives them, and the logits (T, V) before each token of a completion.

    ValueError where the model's `generate` can't be made to give this completion.
    """
    inputs = {name: value.to(policy.device) for name, value in _inputs(policy, question).items()}
    prompt = inputs["input_ids"].shape[1]
    # Some classes have a `generate` of their own that loses the processor (Janus): then the one that all inherit.
    inherited: Callable[..., Any] = partial(GenerationMixin.generate, policy.model)
    for generate in (policy.model.generate, inherited):
        with torch.no_grad(), no_report():
            out = generate(
                **inputs,
                max_new_tokens=len(token_ids),
                min_new_tokens=len(token_ids),
                do_sample=False,
                logits_processor=[_Forced(prompt, token_ids)],
                output_logits=True,
                return_dict_in_generate=True,
                eos_token_id=-1,
                pad_token_id=policy.processor.pad_token_id,
            )
        if out.sequences[0, -len(token_ids) :].tolist() == token_ids:
            return inputs["input_ids"][0].tolist(), torch.cat(out.logits).float()
    raise ValueError("its generate takes no logits processor")


def _inputs(policy: Policy, question: Question) -> dict[str, Any]:
    text = policy.processor.render(question.messages)
    if not question.images:
        # A tokenizer's own kinds of tokens are of pairs of texts, and no chat model's business.
        words = policy.processor.tokenizer([text], add_special_tokens=False, return_tensors="pt")
        found = {name: words[name] for name in ("input_ids", "attention_mask")}
    else:
        images = [decode_image(image) for image in question.images]
        found = policy.processor.whole_output(text, images)
    names = forward_names(policy.model)
    floating = {
        n: v.to(policy.model.dtype) for n, v in found.items() if isinstance(v, Tensor) and v.is_floating_point()
    }
    kept = {n: v for n, v in (found | floating).items() if isinstance(v, Tensor) and n not in _NOT_GIVEN}
    # `generate` refuses what no forward takes.
    return {n: v for n, v in kept.items() if names is None or n in names or n in ("input_ids", "attention_mask")}


def chosen_logprobs(logits_TV: Tensor, token_ids: list[int], banned: list[int], temperature: float) -> Tensor:
    """(T,): log-probs at a temperature without the banned ids, written out once more."""
    logits_TV = logits_TV.clone() / temperature
    logits_TV[:, banned] = float("-inf")
    ids_T1 = torch.tensor(token_ids, device=logits_TV.device)[:, None]
    return logits_TV.log_softmax(-1).gather(1, ids_T1)[:, 0]
