"""Value models: a policy's backbone, images included, and one linear head with a number a dimension at every token.

sigmoid of dimension d at a completion's token t is what grade d the completion is expected to get, given what stands up
to t (SafeWork-R1, arXiv:2507.18576, has one principled value model a dimension; a shared body is our own design). A
value model is a policy's folder: plain safetensors in which the head is one tensor more, and a config that says under
`value_model` what the numbers are. It loads with no code of its own, and writes no completions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    width = model.config.get_text_config().hidden_size
    head = torch.nn.Linear(width, len(record.dimensions))
    with torch.no_grad():
        # Not random: the same policy has to give the same value model.
        head.weight.copy_(_stored(folder, "weight") if known else torch.zeros_like(head.weight))
        head.bias.copy_(_stored(folder, "bias") if known else torch.zeros_like(head.bias))
    setattr(model, HEAD, head)
    set_record(model, record)


def _stored(folder: Path, part: str) -> Tensor:
    """A tensor of the head, from the file of the folder that holds it."""
    import json

    from safetensors import safe_open

    name, file = f"{HEAD}.{part}", _FILE
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
    device = next(model.parameters()).device
    share = unshared_reason(model) is None
    kwargs, _ = (packed_inputs if share else padded_inputs)(model, processor, groups, device)
    starts = _starts(groups, share, kwargs["input_ids"].shape[1])
    places = [start + end - 1 for start, own in zip(starts, ends, strict=True) for end in own]
    # The body alone: the output head's table of logits would be most of the work.
    hidden_BLH = model.base_model(**kwargs, use_cache=False).last_hidden_state
    # One flat index_select: its backward adds up in a fixed order.
    hidden_MH = hidden_BLH.flatten(0, 1).index_select(0, torch.tensor(places, device=device))
    head: Callable[[Tensor], Tensor] = getattr(model, HEAD)
    return head(hidden_MH.to(getattr(model, HEAD).weight.dtype)).float()


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
