"""Pictures of prompts as model inputs, decoded when they are needed and held while there is room."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from schemas.rollouts import RolloutGroup
from stages.core.errors import BadSample

if TYPE_CHECKING:
    from torch import Tensor

    from stages.models.processor import PromptProcessor

_ROOM = 1 << 30


class ImageInputs:
    """Image inputs of stored groups. A group is scored, then trained on: the second time is free, memory
    permitting."""

    def __init__(self, processor: PromptProcessor, room: int = _ROOM) -> None:
        self._processor, self._room, self._held_bytes = processor, room, 0
        self._held: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    def of(self, row: RolloutGroup) -> dict[str, Tensor]:
        """Model inputs for the row's pictures; {} without.

        BadSample when this processor renders another prompt than the sampler's did.
        """
        if not row.images:
            return {}
        if row.id in self._held:
            self._held.move_to_end(row.id)
            return self._held[row.id]
        encoded = self._processor.encode(row.messages, row.images)
        if encoded.token_ids != row.prompt_token_ids:
            raise BadSample("prompt_mismatch", f"{len(encoded.token_ids)} tokens, sampled {len(row.prompt_token_ids)}")
        self._held[row.id] = encoded.image_inputs
        self._held_bytes += _size(encoded.image_inputs)
        while self._held_bytes > self._room and len(self._held) > 1:
            _, dropped = self._held.popitem(last=False)
            self._held_bytes -= _size(dropped)
        return encoded.image_inputs


def _size(inputs: dict[str, Tensor]) -> int:
    return sum(value.nbytes for value in inputs.values())
