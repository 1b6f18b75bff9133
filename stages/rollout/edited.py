"""Going on from a completion that somebody edited: the ids it begins with, whose they are, and which noise follows."""

from __future__ import annotations

from dataclasses import replace

from schemas.prompts import Edit
from schemas.rollouts import Sampling
from stages.core.errors import BadSample
from stages.engines.base import Engine
from stages.rollout.methods.base import Asked, Beginning


def begun(asked: Asked, edit: Edit, engine: Engine, policy_id: str, sampling: Sampling) -> Asked:
    """The same prompt, each of its completions with the edit's ids before it.

    The first goes on with the noise of the completion that was edited, at its place: where nothing was changed it comes
    out as it was. The others have the noise of the places after it. What a person wrote takes nothing from
    `max_new_tokens`. BadSample where the ids mean something else to this policy's tokenizer.
    """
    if engine.decode(list(edit.token_ids)) != edit.text:
        raise BadSample(
            "other_tokenizer", "the edit's token ids are other words to this policy: edit again from its own"
        )
    count, request = asked.request.n, asked.request
    beginning = beginning_of(edit, policy_id, sampling)
    # By what that completion's policy generated, whoever goes on: the same edit has the same length.
    left = max(0, sampling.max_new_tokens - sum(edit.generated))
    request = replace(
        request,
        prefix_ids=[beginning.token_ids] * count,
        limits=[left] * count,
        noise=(edit.noise_id, edit.noise_index),
    )
    return replace(asked, request=request, beginning=beginning)


def beginning_of(edit: Edit, policy_id: str, sampling: Sampling) -> Beginning:
    """The edit's ids, and which of them this policy generated under this sampling.

    All that it sampled itself, if it is the same policy at the same temperature: of others nobody knows the log-probs.
    """
    same = (edit.policy_id, edit.temperature, edit.top_p, edit.top_k) == (
        policy_id,
        sampling.temperature,
        sampling.top_p,
        sampling.top_k,
    )
    generated = [own and same for own in edit.generated]
    logprobs = [logprob if own else 0.0 for logprob, own in zip(edit.logprobs, generated, strict=True)]
    return Beginning(list(edit.token_ids), logprobs, generated, edit.guided)
