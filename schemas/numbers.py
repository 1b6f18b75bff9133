"""Token ids and log-probs as rows hold them: a sequence of numbers that stays the Arrow buffer which it was read from.

Most rows only carry them on: a completion that is scored is written with the ids that it came with. As Python objects
they would be most of a run's memory and time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np

N = TypeVar("N", int, float)


class Numbers(Sequence[N]):
    """Whole numbers or floats of one width; each becomes a Python number when it is asked for.

    Equal to any list, tuple or Numbers of the same values.
    """

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        """One-dimensional, int32 or float32, and not written to: it may be a part of a whole shard's buffer."""

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, at: int) -> N: ...

    @overload
    def __getitem__(self, at: slice) -> list[N]: ...

    def __getitem__(self, at: int | slice) -> N | list[N]:
        found = self.array[at]
        values: N | list[N] = found.tolist()
        return values

    def __iter__(self) -> Iterator[N]:
        return iter(self.array.tolist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Numbers):
            return bool(np.array_equal(self.array, other.array))
        if isinstance(other, list | tuple):
            return len(other) == len(self.array) and self.array.tolist() == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.array.tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """For `np.asarray` and `torch.as_tensor`, which would ask for one number after the other."""
        return np.array(self.array, dtype=dtype) if copy or dtype is not None else self.array
