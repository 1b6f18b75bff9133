"""What a processor returns beside token ids, on its way to a model's forward: kept, lengthened, joined.

Two kinds are told apart. Inputs *along the sequence* have an entry a token, (1, P, ...): Gemma 3's `token_type_ids`
say which tokens are of one image and see each other, Mllama's `cross_attention_mask` which images a token sees. They
are as long as the prompt and are lengthened for a completion. All others are of the images: rows of several prompts
are put one below the other, and where images of different sizes give different shapes they are padded as the
families' own processors pad them, but only beside an input that tells the model how much is image.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from stages.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

_IDS = ("input_ids", "attention_mask")
# A loss over the prompt, which some processors compute; with it a forward would compare its logits with them.
_TARGETS = ("labels",)
# What a padded `pixel_values` is read by: sizes, or a mask of the pixels that are image.
_MASKS = ("pixel_attention_mask", "image_attention_mask")
_SIZES = ("image_sizes", *_MASKS)


def forward_names(model: Any) -> frozenset[str] | None:
    """What a model's forward takes by name, its inner model's names with them; None where no name is known."""
    # `forward` itself may be wrapped; the class says what the family takes.
    return _names_of((type(model), type(getattr(model, "base_model", model))))


def needs_images(model: Any) -> bool:
    """Whether a model's forward can't do without images: they are an argument that has no default (BLIP-2)."""
    found = inspect.signature(type(model).forward).parameters.values()
    return any(p.name.startswith("pixel") and p.default is p.empty for p in found)


def keeps_all_logits(model: Any) -> str | None:
    """Why a model computes the logits of every position whatever is asked of it; None where it can leave some out."""
    names = forward_names(model)
    if names is None or "logits_to_keep" in names:
        return None
    return f"the forward of {type(model).__name__} takes no logits_to_keep"


def kept_logits(model: Any, forward: Callable[..., Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Logits (B, K, V) of the positions `logits_to_keep` (K,), also from a forward that gives all of them.

    What the forward has no name for among the keywords that every caller gives is left out.
    """
    names, keep_K = forward_names(model), kwargs["logits_to_keep"]
    # Handed on they would be swallowed, or refused.
    missing = {name for name in ("logits_to_keep", "position_ids") if names is not None and name not in names}
    logits_BKV: Tensor = forward(**{name: value for name, value in kwargs.items() if name not in missing}).logits
    return logits_BKV if logits_BKV.shape[1] == len(keep_K) else logits_BKV.index_select(1, keep_K)


@cache
def _names_of(classes: tuple[Any, ...]) -> frozenset[str] | None:
    names: set[str] = set()
    for one in classes:
        found = inspect.signature(one.forward).parameters.values()
        names |= {p.name for p in found if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    return frozenset(names - {"self"}) or None


def beside_ids(out: Mapping[str, Any], names: frozenset[str] | None) -> dict[str, Tensor]:
    """The model's inputs in a processor's output, without ids and mask: what its forward takes by name."""
    return {
        name: value
        for name, value in out.items()
        if name not in _IDS + _TARGETS and isinstance(value, torch.Tensor) and (names is None or name in names)
    }


def runs_along(name: str, value: Tensor, length: int) -> bool:
    """Whether an input of one prompt has an entry a token; one of images is told by its name."""
    if name.startswith(("pixel", "image")):
        return False
    return value.dim() >= 2 and value.shape[0] == 1 and value.shape[1] == length


def lengthened(
    value_1P: Tensor | None, like: Tensor, length: int, width: int, begin: int, further: int | None
) -> Tensor:
    """One row (1, W, ...) of an input along the sequence: the prompt's entries, then those of its completion.

    A completion's tokens get `further`, or what the prompt's last token has, as transformers' own `generate` does;
    padding gets 0 and is masked. `like` gives dtype and further axes for a row without the input.
    """
    row = like.new_zeros(1, width, *like.shape[2:])
    if value_1P is None:
        if further is not None:
            row[:, begin : begin + length] = further
        return row
    prompt = value_1P.shape[1]
    row[:, begin : begin + prompt] = value_1P
    if length > prompt:
        row[:, begin + prompt : begin + length] = value_1P[:, -1:] if further is None else further
    return row


def together(inputs: Mapping[str, Tensor], along: Iterable[str], pads_pixels: bool = True) -> Hashable:
    """Rows may share a forward where this is equal for both; None goes with all but row by row inputs.

    Shapes that padding can make alike are alike, those of the pixels themselves without a mask only by `pads_pixels`.
    An input along the sequence that is no kind of token (`*_type_ids`) ties images to rows, one set a row: such rows
    are never padded, and never beside one without images.
    """
    images = {name: value for name, value in inputs.items() if name not in set(along)}
    if not images:
        return None
    if any(not name.endswith("_type_ids") for name in inputs if name in set(along)):
        return "rows", tuple(sorted((name, tuple(value.shape)) for name, value in images.items()))
    if sized(images):
        if pads_pixels or any(name in images for name in _MASKS):
            return ("padded",)
        pixels = {name: value for name, value in images.items() if name.startswith("pixel")}
        return "padded", tuple(sorted((name, tuple(value.shape[-2:])) for name, value in pixels.items()))
    return "equal", tuple(sorted((name, tuple(value.shape[1:])) for name, value in images.items()))


def sized(inputs: Mapping[str, Tensor]) -> bool:
    """Whether one of the inputs tells the model how much of its pixels is image."""
    return any(name in inputs for name in _SIZES)


def apart(
    rows: Sequence[Mapping[str, Tensor]], along: Iterable[str], *, pads_pixels: bool = True, alone: bool = False
) -> list[list[int]]:
    """Places of rows that may share a forward, each list ascending; one list where all may.

    `alone`: a row with images shares it with none.
    """
    found: dict[Hashable, list[int]] = {}
    for place, inputs in enumerate(rows):
        key = ("alone", place) if alone and inputs else together(inputs, along, pads_pixels)
        found.setdefault(key, []).append(place)
    words = found.get(None)
    others = [key for key in found if key is not None]
    if words is not None and others and not (isinstance(others[0], tuple) and others[0][0] in ("rows", "alone")):
        found[others[0]] = sorted([*found[others[0]], *found.pop(None)])
    return sorted(found.values())


def joined(name: str, values: Sequence[Tensor], sized: bool) -> Tensor:
    """Image inputs of several rows as one tensor, in their order, padded behind where sizes differ.

    UsageError where they differ and nothing would tell the model what is padding.
    """
    if len({value.shape[1:] for value in values}) == 1:
        return torch.cat(list(values))
    if not sized or len({value.dim() for value in values}) > 1:
        shapes = " and ".join(sorted({str(tuple(value.shape[1:])) for value in values}))
        raise unbatchable(f"images that give {name} of {shapes}")
    largest = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]
    return torch.cat([_padded(value, largest) for value in values])


def unbatchable(what: str) -> UsageError:
    """That a model family is not known to take something in one forward, and what to type."""
    return UsageError(
        f"{what} can't go through this model family in one forward",
        "one prompt at a time: --set micro_batch_tokens=1 (RL), or --set micro_batch_size=1 (SFT)",
    )


def _padded(value: Tensor, sizes: list[int]) -> Tensor:
    """Zeros behind what is there, in every axis but the first: what processors pad pixels and their masks with."""
    whole = value.new_zeros(value.shape[0], *sizes)
    whole[(slice(None), *(slice(size) for size in value.shape[1:]))] = value
    return whole
