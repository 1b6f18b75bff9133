"""Room on a disk for weights: where there is none, how much was to be written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.errors import NO_ROOM, NoRoomError, system_number

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def room_for(place: Path, *tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Around writing these tensors below `place`.

    NoRoomError for a full disk, met by Python, or by safetensors, whose own error has no number.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError) as error:
        if (number := system_number(error)) not in NO_ROOM:
            raise
        # Of a tensor that lies in parts: all of it.
        needed = sum(value.numel() * value.element_size() for values in tensors for value in values.values())
        raise NoRoomError(number, str(place), needed) from None
