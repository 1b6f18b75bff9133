"""Rows as Arrow columns, built from buffers: column by column, each value looked at once.

pyarrow's own converter imports pandas where that is installed, a third of a second and 48 MiB for nothing here. What
is not plainly of its type is left to it all the same: it converts what it can, and its error says what is wrong.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

N = TypeVar("N", int, float)
_NUMBERS: dict[pa.DataType, tuple[Any, set[type]]] = {
    pa.int64(): (np.int64, {int}),
    pa.int32(): (np.int32, {int}),
    pa.float64(): (np.float64, {float, int}),
    pa.float32(): (np.float32, {float, int}),
}


class Numbers(Sequence[N]):
    """Token ids or log-probs as they lie in an Arrow buffer; each becomes a Python number when it is asked for.

    Most rows only carry them on: a completion that is scored is written with the ids that it came with. As Python
    objects they would be most of a run's memory and time.
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


class _Odd(Exception):
    """A value that is not plainly of its column's type."""


def column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Values of one type, None among them, as an array; structs are objects with the fields as attributes.

    Raises pa.ArrowInvalid or pa.ArrowTypeError for a value of a wrong type.
    """
    try:
        return _array(values, kind)
    except _Odd:
        return pa.array(list(map(_plain, values)), kind)


def integers(array: pa.Array) -> np.ndarray[Any, Any]:
    """An array of whole numbers in numpy, 0 in place of null; pyarrow's own `to_numpy` looks for pandas."""
    if array.null_count:
        return np.array([value or 0 for value in array.to_pylist()], np.int64)
    dtype = np.dtype(f"i{array.type.bit_width // 8}")
    return np.frombuffer(array.buffers()[1], dtype)[array.offset : array.offset + len(array)]


def text_values(array: pa.Array) -> list[str | None]:
    """The texts of an array whose UTF-8 is known to be right, as `to_pylist` gives them, in a third of its time."""
    if array.null_count or not len(array):
        found: list[str | None] = array.to_pylist()
        return found
    _, offsets, data = array.buffers()
    width = np.int64 if pa.types.is_large_string(array.type) else np.int32
    ends = np.frombuffer(offsets, width)[array.offset : array.offset + len(array) + 1]
    first = int(ends[0])
    whole = str(memoryview(data)[first : int(ends[-1])], "utf-8") if data is not None else ""
    if not whole.isascii():
        # Offsets count bytes.
        return list(array.to_pylist())
    edges = (ends - first).tolist()
    return [whole[begin:end] for begin, end in pairwise(edges)]


def _plain(value: Any) -> Any:
    """The value with dictionaries in place of objects, as pyarrow reads them."""
    if isinstance(value, list | Numbers):
        return list(map(_plain, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    missing = values.count(None)
    if missing == len(values):
        return pa.nulls(len(values), kind)
    present = np.array([value is not None for value in values]) if missing else None
    return _BUILD[kind.id](values, kind, present)


def _structs(values: list[Any], kind: pa.DataType, present: Any) -> pa.Array:
    columns = []
    for field in kind:
        get = operator.attrgetter(field.name)
        try:
            inside = (
                [None if value is None else get(value) for value in values] if present is not None else map(get, values)
            )
            columns.append(_array(list(inside), field.type))
        except AttributeError:
            raise _Odd from None
    mask = None if present is None else pa.Array.from_buffers(pa.bool_(), len(values), [None, _bitmap(~present)])
    return pa.StructArray.from_arrays(columns, fields=list(kind), mask=mask)


def _lists(values: list[Any], kind: pa.DataType, present: Any) -> pa.Array:
    found = values if present is None else [[] if value is None else value for value in values]
    types = set(map(type, found))
    if not types <= {list, Numbers}:
        raise _Odd
    offsets = _offsets(map(len, found), len(found))
    if Numbers in types and kind.value_type in _NUMBERS:
        inside = _joined(found, kind.value_type)
    else:
        inside = _array(list(chain.from_iterable(found)), kind.value_type)
    buffers = [_bitmap(present), pa.py_buffer(offsets)]
    return pa.Array.from_buffers(kind, len(found), buffers, _nulls(present), children=[inside])


def _joined(values: list[Any], kind: pa.DataType) -> pa.Array:
    """All numbers of these sequences, one after the other; those that lie in a buffer are copied as they lie there."""
    dtype, _ = _NUMBERS[kind]
    parts = [v.array if isinstance(v, Numbers) else _in_numpy(_array(v, kind)) for v in values if len(v)]
    if any(part.dtype != dtype for part in parts):
        raise _Odd
    joined = np.concatenate(parts) if parts else np.zeros(0, dtype)
    return pa.Array.from_buffers(kind, len(joined), [None, pa.py_buffer(joined)], 0)


def packed_ids(values: Sequence[int]) -> Sequence[int]:
    """Token ids in four bytes each; pa.ArrowInvalid or pa.ArrowTypeError for what is none."""
    return _packed(values, pa.int32())


def packed_logprobs(values: Sequence[float]) -> Sequence[float]:
    """Log-probs in four bytes each; pa.ArrowInvalid or pa.ArrowTypeError for what is none."""
    return _packed(values, pa.float32())


def _packed(values: Sequence[Any], kind: pa.DataType) -> Sequence[Any]:
    array = column(list(values), kind)
    return values if array.null_count else Numbers(_in_numpy(array))


def number_lists(array: pa.Array) -> list[Numbers[Any] | None] | None:
    """Lists of numbers as views of the array's own buffer; None where a list has a null inside."""
    flat = array.flatten()
    if flat.null_count:
        return None
    numbers = _in_numpy(flat)
    ends = np.cumsum(integers(pc.list_value_length(array)), dtype=np.int64).tolist()
    found: list[Numbers[Any] | None] = [
        Numbers(numbers[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)
    ]
    if not array.null_count:
        return found
    return [own if valid else None for own, valid in zip(found, array.is_valid().to_pylist(), strict=True)]


def generated_counts(completions: pa.StructArray) -> np.ndarray[Any, Any]:
    """How many tokens of each completion the policy generated, as `Completion.generated_tokens` counts them.

    Counted in Arrow, for ids as Python integers would be most of the work. Shards from before there was a column
    `generated` have completions that are generated throughout.
    """
    lengths_N = pc.fill_null(pc.list_value_length(completions.field("token_ids")), 0).to_numpy(zero_copy_only=False)
    if completions.type.get_field_index("generated") < 0:
        return lengths_N
    own = completions.field("generated")
    if own.null_count == len(own):
        return lengths_N
    true_T = pc.fill_null(own.values, False).cast(pa.int64()).to_numpy(zero_copy_only=False)
    # The sum up to each list's begin and end: lists may be slices of a longer array of values.
    sums, offsets = np.concatenate([[0], np.cumsum(true_T)]), own.offsets.to_numpy(zero_copy_only=False)
    said = pc.is_valid(own).to_numpy(zero_copy_only=False)
    return np.where(said, sums[offsets[1:]] - sums[offsets[:-1]], lengths_N)


def _in_numpy(array: pa.Array) -> np.ndarray[Any, Any]:
    """An array of numbers without nulls, in numpy and not copied."""
    dtype, _ = _NUMBERS[array.type]
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(0, dtype)
    return np.frombuffer(buffer, dtype)[array.offset : array.offset + len(array)]


def _texts(values: list[Any], kind: pa.DataType, present: Any) -> pa.Array:
    try:
        text = "".join(values if present is None else [value or "" for value in values])
    except TypeError:
        raise _Odd from None
    if text.isascii():
        return _bytes_array(text.encode(), _lengths(values, present), len(values), kind, present)
    try:
        encoded = [b"" if value is None else value.encode() for value in values]
    except UnicodeEncodeError:
        raise _Odd from None
    return _bytes_array(b"".join(encoded), map(len, encoded), len(values), kind, present)


def _binaries(values: list[Any], kind: pa.DataType, present: Any) -> pa.Array:
    if not {type(value) for value in values} <= {bytes, type(None)}:
        raise _Odd
    data = b"".join(values if present is None else [value or b"" for value in values])
    return _bytes_array(data, _lengths(values, present), len(values), kind, present)


def _lengths(values: list[Any], present: Any) -> Iterable[int]:
    return map(len, values) if present is None else (0 if value is None else len(value) for value in values)


def _bytes_array(data: bytes, lengths: Iterable[int], n: int, kind: pa.DataType, present: Any) -> pa.Array:
    buffers = [_bitmap(present), pa.py_buffer(_offsets(lengths, n)), pa.py_buffer(data)]
    return pa.Array.from_buffers(kind, n, buffers, _nulls(present))


def _numbers(values: list[Any], kind: pa.DataType, present: Any) -> pa.Array:
    dtype, types = _NUMBERS[kind]
    if not set(map(type, values)) <= (types if present is None else types | {type(None)}):
        raise _Odd
    # A large whole number may not be a number of a float column, and pyarrow refuses it then.
    if dtype in (np.float64, np.float32) and any(type(v) is int and abs(v) > _EXACT for v in values):
        raise _Odd
    try:
        # By way of 64 bits, where a number that does not fit raises: the narrow type would only warn of it.
        wide = np.array(values if present is None else [value or 0 for value in values], _WIDE[np.dtype(dtype).kind])
    except OverflowError:
        raise _Odd from None
    numbers = wide.astype(dtype)
    if wide.dtype.kind == "i" and (numbers != wide).any():
        raise _Odd
    return pa.Array.from_buffers(kind, len(values), [_bitmap(present), pa.py_buffer(numbers)], _nulls(present))


_EXACT = 1 << 24
_WIDE = {"i": np.int64, "f": np.float64}


def _bools(values: list[Any], kind: pa.DataType, present: Any) -> pa.Array:
    if not {type(value) for value in values} <= {bool, type(None)}:
        raise _Odd
    bits = np.packbits(np.fromiter(map(bool, values), bool, len(values)), bitorder="little")
    return pa.Array.from_buffers(kind, len(values), [_bitmap(present), pa.py_buffer(bits)], _nulls(present))


def _offsets(lengths: Iterable[int], n: int) -> np.ndarray[Any, Any]:
    ends = np.cumsum(np.fromiter(lengths, np.int64, n))
    # Arrow's plain types count to 2^31; pyarrow says so in its own words.
    if n and ends[-1] >= 1 << 31:
        raise _Odd
    return np.concatenate([np.zeros(1, np.int32), ends.astype(np.int32)])


def _bitmap(present: Any) -> Any:
    return None if present is None else pa.py_buffer(np.packbits(present, bitorder="little"))


def _nulls(present: Any) -> int:
    return 0 if present is None else int(len(present) - present.sum())


_BUILD: dict[int, Callable[[list[Any], pa.DataType, Any], pa.Array]] = {
    pa.struct([]).id: _structs,
    pa.list_(pa.null()).id: _lists,
    pa.string().id: _texts,
    pa.binary().id: _binaries,
    pa.bool_().id: _bools,
    **{kind.id: _numbers for kind in _NUMBERS},
}
