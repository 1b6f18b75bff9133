"""Images of prompts as model inputs, and as a frozen tower's features: made when needed, kept while there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from schemas.rollouts import RolloutGroup
from stages.core.errors import BadSample
from stages.models.families import family_of

if TYPE_CHECKING:
    from torch import Tensor

    from stages.models.processor import PromptProcessor

_ROOM = 1 << 30
T = TypeVar("T")


class SizedCache(Generic[T]):
    """What was made last, up to a number of bytes; the newest is always kept, however large it is."""

    def __init__(self, size: Callable[[T], int], room: int = _ROOM) -> None:
        self._size, self._room, self._bytes = size, room, 0
        self._values: OrderedDict[str, T] = OrderedDict()

    def peek(self, key: str) -> T | None:
        """The value of a key, which counts as used; None where it is not kept any more."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: str, value: T) -> T:
        """Keep a value and return it; those longest unused make room for it."""
        if (before := self._values.pop(key, None)) is not None:
            self._bytes -= self._size(before)
        self._values[key] = value
        self._bytes += self._size(value)
        while self._bytes > self._room and len(self._values) > 1:
            _, dropped = self._values.popitem(last=False)
            self._bytes -= self._size(dropped)
        return value


class ImageInputs:
    """Image inputs of stored groups. A group is scored, then trained on: the second time is free, memory
    permitting."""

    def __init__(self, processor: PromptProcessor, room: int = _ROOM) -> None:
        self._processor = processor
        self._cache: SizedCache[dict[str, Tensor]] = SizedCache(
            lambda inputs: sum(v.nbytes for v in inputs.values()), room
        )

    def of(self, row: RolloutGroup) -> dict[str, Tensor]:
        """Model inputs for the row's images; {} without.

        BadSample when this processor renders another prompt than the sampler's did.
        """
        if not row.images:
            return {}
        cached = self._cache.peek(row.id)
        return self._cache.put(row.id, self._encode(row)) if cached is None else cached

    def _encode(self, row: RolloutGroup) -> dict[str, Tensor]:
        encoded = self._processor.encode(row.messages, row.images)
        if encoded.token_ids != row.prompt_token_ids:
            raise BadSample("prompt_mismatch", f"{len(encoded.token_ids)} tokens, sampled {len(row.prompt_token_ids)}")
        return encoded.image_inputs


class FrozenTower:
    """A vision tower that is not trained: run once for each prompt's images, however many updates a rollout has."""

    def __init__(self, model: Any, room: int = _ROOM) -> None:
        self._family = family_of(model)
        self._tower = self._family.tower(model)
        # Of the tower's last output: a family's own class may have fields that others have not.
        self._output_class: Any = None
        self._cache: SizedCache[dict[str, list[Tensor]]] = SizedCache(
            lambda parts: sum(tensor.nbytes for tensors in parts.values() for tensor in tensors), room
        )
        # Names under which the tower returned a list, of one tensor for each of several layers.
        self._lists: set[str] = set()

    @staticmethod
    def fits(model: Any) -> bool:
        """True where the model has a tower of its own whose outputs are known, and none of it is trained."""
        if not family_of(model).vision_outputs:
            return False
        tower = family_of(model).tower(model)
        return tower is not model and not any(p.requires_grad for p in tower.parameters())

    @contextmanager
    def cached(self, prompts: list[tuple[str, dict[str, Tensor]]]) -> Iterator[None]:
        """Answer the tower's calls of the next forward from what is kept of these prompts' (id, image inputs).

        Where one of them is missing the tower runs for all, and its output is shared out by their patches. The model's
        own forward still calls the tower, so whatever it does around that call stays as it is.
        """
        plain = self._tower.forward

        def forward(*given: Any, **named: Any) -> Any:
            # Hidden states of each layer are not kept: nothing in training asks for them.
            if named.get("output_hidden_states"):
                return plain(*given, **named)
            kept = [parts for key, _ in prompts if (parts := self._cache.peek(key)) is not None]
            if len(kept) < len(prompts):
                output = plain(*given, **named)
                self._keep(prompts, output)
                return output
            # In the order of the prompts: a model matches images to placeholders by order alone.
            whole: dict[str, Any] = {}
            for name in kept[0]:
                layers = [torch.cat(parts) for parts in zip(*(prompt[name] for prompt in kept), strict=True)]
                whole[name] = layers if name in self._lists else layers[0]
            return self._output_class(**whole)

        self._tower.forward = forward
        try:
            yield
        finally:
            del self._tower.forward

    def _keep(self, prompts: list[tuple[str, dict[str, Tensor]]], output: Any) -> None:
        """Each prompt's share of the output, by its part of the patches: every tensor has them first."""
        # Merging leaves fewer rows than patches, by the same factor for each image.
        patches = [len(inputs["pixel_values"]) for _, inputs in prompts]
        self._output_class = type(output)
        found = self._family.kept_outputs(self._tower, output)
        self._lists = {name for name, value in found.items() if isinstance(value, list | tuple)}
        for name, value in found.items():
            found[name] = [layer.detach() for layer in (value if name in self._lists else [value])]
        shares = {
            name: [v.split([len(v) * p // sum(patches) for p in patches]) for v in layers]
            for name, layers in found.items()
        }
        for i, (key, _) in enumerate(prompts):
            # Copies: a split is a view, and one prompt's would keep the whole batch's output alive.
            self._cache.put(key, {name: [layer[i].clone() for layer in layers] for name, layers in shares.items()})
