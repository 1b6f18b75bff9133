"""Room on a disk for what training saves: where there is none, how much was to be written."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.errors import NoRoomError

if TYPE_CHECKING:
    from torch import Tensor

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def room_for(place: Path, *tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Around writing these tensors below `place`.

    NoRoomError for a full disk, met by Python, or by safetensors, whose own error has no number.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError) as error:
        if (number := _number(error)) not in _NUMBERS:
            raise
        # Of a tensor that lies in parts: all of it.
        needed = sum(value.numel() * value.element_size() for values in tensors for value in values.values())
        raise NoRoomError(number, str(place), needed) from None


def _number(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None
