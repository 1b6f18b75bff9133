"""Value models: a policy's backbone, images included, and one linear head with a number a dimension at every token.

sigmoid of dimension d at a completion's token t is what grade d the completion is expected to get, given what stands up
to t (SafeWork-R1, arXiv:2507.18576, has one principled value model a dimension; a shared body is our own design). A
value model is a policy's folder: plain safetensors in which the head is one tensor more, and a config that says under
`value_model` what the numbers are. It loads with no code of its own, and writes no completions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stages.core.errors import UsageError
from stages.models.attention.shared_inputs import TokenGroup, packed_inputs, padded_inputs
from stages.models.families import unshared_reason
from stages.models.value_record import ValueRecord, record_of, set_record

if TYPE_CHECKING:
    from stages.models.processor import PromptProcessor

HEAD = "value_head"
"""The head's name among the weights."""
ROUTER = "router_head"
"""The name of the second head, where there is one: from the prompt's last state to a logit a dimension."""
_FILE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def add_head(model: Any, folder: Path, record: ValueRecord) -> None:
    """Give a loaded model its head, and its config the record: the folder's where it has one, else a new one.

    A new head gives 0.5 to all. UsageError where the folder's is of other dimensions or steps.
    """
    known = record_of(model.config)
    if known is not None and (known.dimensions, known.step) != (record.dimensions, record.step):
        raise UsageError(
            f"{folder} values {', '.join(known.dimensions)} by {known.step}, and asked for are"
            f" {', '.join(record.dimensions)} by {record.step}",
            "start from a policy, or ask for what this value model has",
        )
    # Not random: the same policy has to give the same value model.
    shape = len(record.dimensions), model.config.get_text_config().hidden_size
    new = torch.zeros(shape), torch.zeros(shape[0])
    _attach(model, HEAD, *(_stored(folder, HEAD) if known else new))
    # Who trains the values anew fits a router anew, or has none.
    if known is not None and record.router:
        _attach(model, ROUTER, *_stored(folder, ROUTER))
    set_record(model, record)


def add_router(model: Any, weight_DH: Tensor, bias_D: Tensor) -> None:
    """Give a value model the head that says how much each dimension counts for a prompt, and say so in its config."""
    _attach(model, ROUTER, weight_DH, bias_D)
    known = record_of(model.config)
    assert known is not None
    set_record(model, replace(known, router=True))


def _attach(model: Any, name: str, weight_DH: Tensor, bias_D: Tensor) -> None:
    head = torch.nn.Linear(weight_DH.shape[1], weight_DH.shape[0])
    with torch.no_grad():
        head.weight.copy_(weight_DH)
        head.bias.copy_(bias_D)
    setattr(model, name, head)


def _stored(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a head in a folder."""
    return _tensor(folder, f"{name}.weight"), _tensor(folder, f"{name}.bias")


def _tensor(folder: Path, name: str) -> Tensor:
    """A tensor, from the file of the folder that holds it."""
    import json

    from safetensors import safe_open

    file = _FILE
    if (folder / _INDEX).is_file():
        file = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"][name]
    with safe_open(folder / file, "pt") as tensors:
        found: Tensor = tensors.get_tensor(name)
    return found.float()


def value_logits(
    model: Any, processor: PromptProcessor, groups: list[TokenGroup], ends: Sequence[Sequence[int]]
) -> Tensor:
    """Logits (M, D) at the ends of steps: `ends` has one list a completion, of token counts from 1, in order.

    M is the number of ends. Prompts are computed once for their completions where the family allows it. Their sigmoid
    is the expected grade.
    """
    head = getattr(model, HEAD)
    hidden_MH = _states(model, processor, groups, lambda n, start: [start + end - 1 for end in ends[n]])
    logits_MD: Tensor = head(hidden_MH.to(head.weight.dtype)).float()
    return logits_MD


def prompt_states(model: Any, processor: PromptProcessor, prompt: list[int], image_inputs: dict[str, Tensor]) -> Tensor:
    """The body's last state (H) at the end of a prompt: what a router sees."""
    # Some token has to follow, and changes nothing before it.
    group = TokenGroup(prompt, image_inputs, [prompt[-1:]])
    return _states(model, processor, [group], lambda _, start: [start - 1])[0].float()


def router_weights(
    model: Any, processor: PromptProcessor, prompt: list[int], image_inputs: dict[str, Tensor]
) -> list[float]:
    """How much each dimension counts for a prompt; they sum to 1. A function of the prompt alone."""
    head = getattr(model, ROUTER)
    with torch.no_grad():
        state_H = prompt_states(model, processor, prompt, image_inputs)
        found: list[float] = head(state_H.to(head.weight.dtype)).double().softmax(0).tolist()
    return found


def _states(
    model: Any, processor: PromptProcessor, groups: list[TokenGroup], places_of: Callable[[int, int], list[int]]
) -> Tensor:
    """The body's last states (M, H) at the places that are asked for of (completion's number, its first place)."""
    device = next(model.parameters()).device
    share = unshared_reason(model) is None
    kwargs, _ = (packed_inputs if share else padded_inputs)(model, processor, groups, device)
    starts = _starts(groups, share, kwargs["input_ids"].shape[1])
    places = [place for n, start in enumerate(starts) for place in places_of(n, start)]
    # The body alone: the output head's table of logits would be most of the work.
    hidden_BLH = model.base_model(**kwargs, use_cache=False).last_hidden_state
    # One flat index_select: its backward adds up in a fixed order.
    return hidden_BLH.flatten(0, 1).index_select(0, torch.tensor(places, device=device))


def _starts(groups: list[TokenGroup], share: bool, width: int) -> list[int]:
    """The flat place of each completion's first token."""
    lengths = [[len(c) for c in g.completions] for g in groups]
    if not share:
        prompts = [len(g.prompt) for g, own in zip(groups, lengths, strict=True) for _ in own]
        return [row * width + prompt for row, prompt in enumerate(prompts)]
    sizes = (len(g.prompt) + sum(own) for g, own in zip(groups, lengths, strict=True))
    begins = list(accumulate(sizes, initial=0))[:-1]
    return [
        begin + len(group.prompt) + before
        for group, begin, own in zip(groups, begins, lengths, strict=True)
        for before in list(accumulate(own, initial=0))[:-1]
    ]
