"""From rendered prompts and their image inputs to one forward's keywords: padded, joined, cast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from stages.models.families import KINDS, Family
from stages.models.forward_inputs import (
    apart,
    beside_ids,
    forward_names,
    joined,
    lengthened,
    needs_images,
    runs_along,
    sized,
    unbatchable,
)


class BatchMaker:
    """Makes a model's batches; what the model's forward takes it learns when the model is there (`fit`)."""

    def __init__(
        self,
        family: Family,
        pad_token_id: int,
        image_token_id: int | None,
        extra_inputs: Callable[[torch.Tensor, int | None], dict[str, torch.Tensor]] | None,
    ) -> None:
        self._family, self._pad_token_id, self._image_token_id = family, pad_token_id, image_token_id
        self._extra_inputs = extra_inputs
        self._names: frozenset[str] | None = None
        self._dtype: torch.dtype | None = None
        self.words_alone = family.words_alone
        # Names of the inputs with an entry a token, as prompts with images showed them.
        self._along: set[str] = set()

    def fit(self, model: Any) -> None:
        """Learn what a model's forward takes, and in which precision: inputs that it has no name for are left out."""
        self._names, self._dtype = forward_names(model), model.dtype
        self.words_alone = self._family.words_alone and not needs_images(model)

    def unread(self, out: Mapping[str, Any]) -> list[str]:
        """Names of what a processor returned that the model's forward takes and no batch could hold."""
        known = self._names or frozenset()
        return sorted(n for n, v in out.items() if n in known and v is not None and not isinstance(v, torch.Tensor))

    def inputs_of(self, out: Mapping[str, Any], length: int) -> dict[str, torch.Tensor]:
        """What a processor returned for one prompt of `length` tokens, as far as the model's forward takes it."""
        inputs = beside_ids(out, self._names)
        if self._family.extra_inputs is not None:
            # Made of the ids of each batch, completions and all.
            inputs = {name: value for name, value in inputs.items() if not name.endswith("_type_ids")}
        self._along |= {name for name, value in inputs.items() if runs_along(name, value, length)}
        return inputs

    def batch(
        self, token_ids: list[list[int]], image_inputs: list[dict[str, torch.Tensor]], side: str = "left"
    ) -> dict[str, torch.Tensor]:
        """Sequences padded to one length, with the images of all rows in row order: a forward's keywords.

        `input_ids`, `attention_mask` (B, L), and what the family's forward takes beside them: for M-RoPE models
        `mm_token_type_ids` (B, L), 1 at image tokens.
        """
        if len(self.apart(image_inputs)) > 1:
            raise unbatchable("these prompts' images, or one without an image beside them,")
        width = max(len(ids) for ids in token_ids)
        ids_BL = torch.full((len(token_ids), width), self._pad_token_id, dtype=torch.long)
        mask_BL = torch.zeros(len(token_ids), width, dtype=torch.long)
        for row, ids in enumerate(token_ids):
            # Sampling wants every row's last token in one column; scoring its first.
            at = slice(width - len(ids), width) if side == "left" else slice(0, len(ids))
            ids_BL[row, at] = torch.tensor(ids, dtype=torch.long)
            mask_BL[row, at] = 1
        out = {"input_ids": ids_BL, "attention_mask": mask_BL}
        if self._extra_inputs is not None:
            out |= self._extra_inputs(ids_BL, self._image_token_id)
        out |= self._along_sequences([len(ids) for ids in token_ids], image_inputs, width, side)
        # Models match images to placeholders by order alone, so rows without images take no part.
        with_images = [inputs for inputs in image_inputs if inputs]
        if with_images:
            for key in (name for name in with_images[0] if name not in self._along):
                whole = joined(key, [inputs[key] for inputs in with_images], sized(with_images[0]))
                out[key] = whole.to(self._dtype) if self._dtype and whole.is_floating_point() else whole
        taken = {*out} if self._names is None else {"input_ids", "attention_mask", *self._names}
        return {name: value for name, value in out.items() if name in taken}

    def _along_sequences(
        self, lengths: list[int], image_inputs: list[dict[str, torch.Tensor]], width: int, side: str
    ) -> dict[str, torch.Tensor]:
        """The inputs with an entry a token, as long as the batch's sequences; {} where no row has one."""
        found = {}
        for name in sorted(self._along):
            like = next((inputs[name] for inputs in image_inputs if name in inputs), None)
            if like is None:
                continue
            further = self._family.completion_marks.get(name, 0 if name.endswith("_type_ids") else None)
            rows = [
                lengthened(inputs.get(name), like, length, width, width - length if side == "left" else 0, further)
                for inputs, length in zip(image_inputs, lengths, strict=True)
            ]
            found[name] = torch.cat(rows)
        return found

    def both_ways(self, inputs: Mapping[str, torch.Tensor]) -> list[tuple[int, int]]:
        """The parts [begin, end) of a prompt with these inputs whose tokens all see each other."""
        if self._family.both_ways is None or KINDS not in inputs:
            return []
        return self._family.both_ways(inputs[KINDS][0].tolist())

    def without_kinds(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The inputs without kinds of tokens: who sees whom is the layout's business in a packed sequence."""
        return {name: value for name, value in inputs.items() if name not in self._along}

    def apart(self, image_inputs: list[dict[str, torch.Tensor]]) -> list[list[int]]:
        """Places of the rows that may share a forward: one list, unless their images can't be put together."""
        alone = self._family.images_alone
        return apart(image_inputs, self._along, pads_pixels=self._family.pads_pixels, alone=alone)

    def continued(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch's inputs along the sequence that a forward over one further token takes too, (B, L, ...).

        Kinds of tokens (`*_type_ids`) are of prompts: with one token alone they would be read as a prompt's.
        """
        return {name: batch[name] for name in self._along if name in batch and not name.endswith("_type_ids")}
