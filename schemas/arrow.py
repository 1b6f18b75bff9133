"""Dataclass rows to Arrow and back: the only translator."""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.columns import column, number_lists
from schemas.identity import digest
from schemas.tables import Table
from schemas.values import Image

_SCALARS: dict[Any, tuple[pa.DataType, str]] = {
    str: (pa.string(), "string"),
    int: (pa.int64(), "int64"),
    float: (pa.float64(), "float64"),
    bool: (pa.bool_(), "bool"),
    bytes: (pa.binary(), "binary"),
}
_NARROW: dict[str, tuple[pa.DataType, str]] = {
    "int32": (pa.int32(), "int32"),
    "float32": (pa.float32(), "float32"),
}
_NARROW_TYPES = [kind for kind, _ in _NARROW.values()]
"""What token ids and log-probs are made of."""


class RowError(ValueError):
    """A shard does not hold what its table says; the message names the column and the row."""


# Resolving annotations takes longer than reading a row, so each class is resolved once.
_HINTS: dict[type[Any], dict[str, Any]] = {}


def hints(cls: type[Any]) -> dict[str, Any]:
    """Resolved field types of a row class, narrow-width annotations kept."""
    if cls not in _HINTS:
        _HINTS[cls] = typing.get_type_hints(cls, include_extras=True)
    return _HINTS[cls]


def unwrap(hint: Any) -> tuple[Any, bool]:
    """(type, nullable): strips `| None`."""
    # `X | None` and `Optional[X]` are two things to Python before 3.14.
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        inner = [a for a in typing.get_args(hint) if a is not type(None)]
        return inner[0], len(inner) < len(typing.get_args(hint))
    return hint, False


def _is_list(hint: Any) -> bool:
    """Whether a field is a list on disk: a list in Python, or any sequence of numbers."""
    return typing.get_origin(hint) in (list, Sequence)


def _is_enum(hint: Any) -> bool:
    """Whether a field holds one of a few words: a string on disk, checked when it is read."""
    return isinstance(hint, type) and issubclass(hint, StrEnum)


def _arrow_type(hint: Any) -> pa.DataType:
    hint, _ = unwrap(hint)
    if typing.get_origin(hint) is typing.Annotated:
        return _NARROW[typing.get_args(hint)[1]][0]
    if _is_list(hint):
        return pa.list_(_arrow_type(typing.get_args(hint)[0]))
    if dataclasses.is_dataclass(hint):
        fields = hints(typing.cast(type, hint))
        return pa.struct([pa.field(name, _arrow_type(h)) for name, h in fields.items()])
    return _SCALARS[str if _is_enum(hint) else hint][0]


def _feature(hint: Any) -> dict[str, Any]:
    """The same type in Hugging Face `datasets` terms, so that images load as images."""
    hint, _ = unwrap(hint)
    if hint is Image:
        return {"_type": "Image"}
    if typing.get_origin(hint) is typing.Annotated:
        return {"dtype": _NARROW[typing.get_args(hint)[1]][1], "_type": "Value"}
    if _is_list(hint):
        return {"feature": _feature(typing.get_args(hint)[0]), "_type": "List"}
    if dataclasses.is_dataclass(hint):
        return {name: _feature(h) for name, h in hints(typing.cast(type, hint)).items()}
    return {"dtype": _SCALARS[str if _is_enum(hint) else hint][1], "_type": "Value"}


@functools.cache
def arrow_schema(table: Table) -> pa.Schema:
    """The Arrow schema of a table: all fields nullable, name, version and fingerprint in the metadata."""
    # Nullable throughout, as other writers leave their columns; `from_record` looks for nulls itself.
    fields = [pa.field(name, _arrow_type(h)) for name, h in hints(table.row).items()]
    features = {name: _feature(h) for name, h in hints(table.row).items()}
    metadata = {
        "cosmo.table": table.name,
        "cosmo.version": str(table.version),
        "cosmo.fingerprint": table_fingerprint(table),
        # `datasets` looks for its features here, and would take images for structs of bytes without them.
        "huggingface": json.dumps({"info": {"features": features}}),
    }
    return pa.schema(fields, metadata=metadata)


def describe(hint: Any) -> Any:
    """A JSON description of a row type, with nullability: what golden files hold."""
    inner, nullable = unwrap(hint)
    mark = "?" if nullable else ""
    if typing.get_origin(inner) is typing.Annotated:
        return typing.get_args(inner)[1] + mark
    if _is_list(inner):
        return [describe(typing.get_args(inner)[0])]
    if dataclasses.is_dataclass(inner):
        return {name: describe(h) for name, h in hints(typing.cast(type, inner)).items()}
    return ("str" if _is_enum(inner) else inner.__name__) + mark


@functools.cache
def table_fingerprint(table: Table) -> str:
    """16 hex digits that change when a row type changes."""
    return digest([table.name, table.version, describe(table.row)])[:16]


def to_record(row: Any) -> dict[str, Any]:
    """A row as plain Python, bytes and lists shared. (`dataclasses.asdict` would copy every list and image.)"""
    record = {}
    for name, nested, _, is_list, _ in _reader(type(row)):
        value = getattr(row, name)
        # One level of lists is all that rows have: a list of classes, or a list of plain values.
        if nested is not None and value is not None:
            value = [to_record(v) for v in value] if is_list else to_record(value)
        record[name] = value
    return record


def to_table(table: Table, rows: Iterable[Any]) -> pa.Table:
    """Rows as an Arrow table; a value of a wrong type raises pa.ArrowInvalid or ArrowTypeError."""
    found, schema = list(rows), arrow_schema(table)
    columns = [column(list(map(operator.attrgetter(field.name), found)), field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


_Plan = list[tuple[str, Any, bool, bool, Any]]
_PLANS: dict[type[Any], _Plan] = {}


def _reader(cls: type[Any]) -> _Plan:
    """(name, nested row class or None, nullable, is_list, enum class or None) for each field."""
    if cls not in _PLANS:
        plan = []
        for name, hint in hints(cls).items():
            inner, nullable = unwrap(hint)
            is_list = _is_list(inner)
            element = typing.get_args(inner)[0] if is_list else inner
            nested = element if dataclasses.is_dataclass(element) else None
            plan.append((name, nested, nullable, is_list, inner if _is_enum(inner) else None))
        _PLANS[cls] = plan
    return _PLANS[cls]


_DEFAULTS: dict[type[Any], frozenset[str]] = {}


def _defaults(cls: type[Any]) -> frozenset[str]:
    """The fields of a row class that it can do without."""
    if cls not in _DEFAULTS:
        none = dataclasses.MISSING
        given = (f.name for f in dataclasses.fields(cls) if f.default is not none or f.default_factory is not none)
        _DEFAULTS[cls] = frozenset(given)
    return _DEFAULTS[cls]


def from_record(cls: type[Any], record: dict[str, Any], where: str = "") -> Any:
    """A row from plain Python; RowError names the column when a required value is null, or no word of its enum."""
    values = {}
    for name, nested, nullable, is_list, enum in _reader(cls):
        value = record.get(name)
        if value is None:
            # What an older shard does not have at all; `check_schema` says which columns may be missing.
            if name not in record and name in _defaults(cls):
                continue
            if not nullable:
                raise RowError(f"{where}column {name!r} is null, and {cls.__name__} needs it")
        elif nested is not None:
            inside = f"{where}{name}."
            if is_list:
                value = [from_record(nested, v, inside) for v in value]
            else:
                value = from_record(nested, value, inside)
        elif enum is not None:
            value = _word(enum, value, f"{where}column {name!r}")
        values[name] = value
    return cls(**values)


def _word(enum: type[StrEnum], value: str, where: str) -> StrEnum:
    try:
        return enum(value)
    except ValueError:
        raise RowError(f"{where} is {value!r}, and has to be one of {', '.join(enum)}") from None


def check_schema(table: Table, found: pa.Schema) -> None:
    """Raise RowError, naming the column, when a file can't be read as this table.

    Extra columns are allowed: a scored shard is also a rollout shard and a prompt shard. So are missing ones that
    `Table.added` names.
    """
    for field in arrow_schema(table):
        position = found.get_field_index(field.name)
        if position < 0 and field.name in table.added:
            continue
        if position < 0:
            raise RowError(f"column {field.name!r} is missing ({table.name} v{table.version} needs it)")
        needed = _without(field.type, field.name, table.added, found.field(position).type)
        if not _readable_as(found.field(position).type, needed):
            where, has, needs = _difference(field.name, found.field(position).type, needed)
            raise RowError(f"column {where!r} is {has}, and {table.name} v{table.version} needs {needs}")


def _without(needed: pa.DataType, where: str, added: frozenset[str], found: pa.DataType) -> pa.DataType:
    """The type without the fields that may be missing and are."""
    if not any(path.startswith(f"{where}.") for path in added):
        return needed
    if pa.types.is_list(needed) and (pa.types.is_list(found) or pa.types.is_large_list(found)):
        return pa.list_(_without(needed.value_type, where, added, found.value_type))
    if not (pa.types.is_struct(needed) and pa.types.is_struct(found)):
        return needed
    kept = []
    for field in needed:
        path, position = f"{where}.{field.name}", found.get_field_index(field.name)
        if position >= 0:
            kept.append(field.with_type(_without(field.type, path, added, found.field(position).type)))
        elif path not in added:
            kept.append(field)
    return pa.struct(kept)


def _difference(where: str, found: pa.DataType, needed: pa.DataType) -> tuple[str, str, str]:
    """The innermost place at which a type can't be read as another: where, what is there, what is needed."""
    if pa.types.is_list(needed) and (pa.types.is_list(found) or pa.types.is_large_list(found)):
        return _difference(where, found.value_type, needed.value_type)
    if pa.types.is_struct(needed) and pa.types.is_struct(found):
        for field in needed:
            position = found.get_field_index(field.name)
            if position < 0:
                return f"{where}.{field.name}", "missing", str(field.type)
            if not _readable_as(found.field(position).type, field.type):
                return _difference(f"{where}.{field.name}", found.field(position).type, field.type)
    return where, str(found), str(needed)


def _readable_as(found: pa.DataType, needed: pa.DataType) -> bool:
    if pa.types.is_struct(needed):
        return pa.types.is_struct(found) and all(
            (i := found.get_field_index(f.name)) >= 0 and _readable_as(found.field(i).type, f.type) for f in needed
        )
    if pa.types.is_list(needed):
        # pandas, polars and `datasets` write large lists and strings with 64-bit offsets; they hold the same.
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
        return is_list and _readable_as(found.value_type, needed.value_type)
    same_kind = (pa.types.is_string, pa.types.is_large_string), (pa.types.is_binary, pa.types.is_large_binary)
    for small, large in same_kind:
        if small(needed):
            return bool(small(found) or large(found))
    return bool(found == needed)


def rows_from(table: Table, batch: pa.Table | pa.RecordBatch, first_row: int = 0) -> Iterator[Any]:
    """Rows of an Arrow batch read as `table`; RowError says which row and column.

    Token ids and log-probs stay in the batch's buffers, as `schemas.columns.Numbers`.
    """
    # Only the table's own columns become Python values: a scored shard read as prompts leaves its completions alone.
    whole = batch.select([name for name in hints(table.row) if name in batch.schema.names])
    for part in whole.to_batches() if isinstance(whole, pa.Table) else [whole]:
        try:
            rows = _objects(table.row, dict(zip(part.schema.names, part.columns, strict=True)), part.num_rows)
        except _Unread:
            # Value by value, to say which row and column it is.
            rows = [
                from_record(table.row, record, f"row {first_row + offset}: ")
                for offset, record in enumerate(part.to_pylist())
            ]
        yield from rows
        first_row += part.num_rows


class _Unread(Exception):
    """A null or a word where a row class can't have it."""


def _objects(cls: type[Any], columns: dict[str, pa.Array], count: int) -> list[Any]:
    """So many rows of a class from one array a field, column by column; what an older shard lacks has its default."""
    fields = [field for field in _reader(cls) if field[0] in columns]
    names = [name for name, *_ in fields]
    values = [_values(field, columns[field[0]]) for field in fields]
    if not values:
        return [cls() for _ in range(count)]
    return [cls(**dict(zip(names, row, strict=True))) for row in zip(*values, strict=True)]


def _values(field: tuple[str, Any, bool, bool, Any], array: pa.Array) -> list[Any]:
    """A field's values in all rows."""
    _, nested, nullable, is_list, enum = field
    if array.null_count and not nullable:
        raise _Unread
    if nested is not None and is_list:
        inside = array.flatten()
        objects = iter(_inner(nested, inside))
        lengths = pc.list_value_length(array).to_pylist()
        return [None if length is None else list(islice(objects, length)) for length in lengths]
    if nested is not None:
        return _inner_or_none(nested, array)
    if is_list and array.type.value_type in _NARROW_TYPES and (lists := number_lists(array)) is not None:
        return lists
    values: list[Any] = array.to_pylist()
    if enum is None:
        return values
    try:
        return [None if value is None else enum(value) for value in values]
    except ValueError:
        raise _Unread from None


def _inner_or_none(cls: type[Any], structs: pa.StructArray) -> list[Any]:
    """The same where a row may have none of that class."""
    if not structs.null_count:
        return _inner(cls, structs)
    there = structs.is_valid()
    # What a null stands for is not looked at: most rows have none, and its fields are nulls as well.
    objects = iter(_inner(cls, structs.filter(there)))
    return [next(objects) if valid else None for valid in there.to_pylist()]


def _inner(cls: type[Any], structs: pa.StructArray) -> list[Any]:
    """Rows of a class that stand inside another one's."""
    if structs.null_count:
        raise _Unread
    # By name: a file may have further fields, and its own order.
    there = {field.name for field in structs.type}
    return _objects(cls, {name: structs.field(name) for name in hints(cls) if name in there}, len(structs))
