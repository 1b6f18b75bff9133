"""Columns built from buffers hold what pyarrow's own converter makes, and pandas is not imported for them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.columns import column, generated_counts, text_values


@dataclass(frozen=True, slots=True)
class Inner:
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class Outer:
    text: Any
    inner: Any
    inners: Any = field(default_factory=list)


INNER = pa.struct([("a", pa.int32()), ("b", pa.float32())])
OUTER = pa.struct([("text", pa.string()), ("inner", INNER), ("inners", pa.list_(INNER))])


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, Inner | Outer):
        return {name: plain(getattr(value, name)) for name in value.__slots__}
    return value


texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=6)
floats = st.floats(width=32, allow_nan=False) | st.integers(-9, 9)
inners = st.builds(Inner, st.none() | st.integers(-(2**31), 2**31 - 1), st.none() | floats)
outers = st.builds(Outer, st.none() | texts, st.none() | inners, st.none() | st.lists(st.none() | inners, max_size=3))
KINDS: list[tuple[pa.DataType, Any]] = [
    (pa.string(), texts),
    (pa.binary(), st.binary(max_size=5)),
    (pa.bool_(), st.booleans()),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.float64(), st.floats(allow_nan=False) | st.integers(-9, 9)),
    (pa.float32(), floats),
    (pa.list_(pa.int32()), st.lists(st.integers(-9, 9), max_size=4)),
    (pa.list_(pa.string()), st.lists(st.none() | texts, max_size=4)),
    (OUTER, outers),
    (pa.list_(OUTER), st.lists(outers, max_size=3)),
]


@pytest.mark.parametrize(("kind", "values"), KINDS)
@given(data=st.data())
def test_columns_are_what_pyarrow_makes(kind: pa.DataType, values: Any, data: st.DataObject) -> None:
    found = data.draw(st.lists(st.none() | values, max_size=12))
    made = column(found, kind)
    made.validate(full=True)
    assert made.equals(pa.array(plain(found), kind))
    assert made.null_count == sum(v is None for v in found)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.int64(), [1, "x"]),
        (pa.int64(), [2**70]),
        (pa.int32(), [2**31]),
        (pa.string(), ["a", 1]),
        (pa.bool_(), [True, "no"]),
        (pa.binary(), [b"", 3]),
        (pa.float64(), [2**60 + 1]),
        (pa.list_(pa.int32()), [[1], 2]),
        (pa.list_(pa.int32()), [[1], ["x"]]),
        (OUTER, [Outer("a", 3)]),
        (OUTER, ["a"]),
    ],
)
def test_a_wrong_type_is_pyarrows_own_error(kind: pa.DataType, values: list[Any]) -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError, OverflowError)):
        column(values, kind)


def test_what_pyarrow_converts_is_converted() -> None:
    assert column([1.0, 2], pa.int64()).to_pylist() == [1, 2]
    assert column([(1, 2), [3]], pa.list_(pa.int32())).to_pylist() == [[1, 2], [3]]


def test_writing_and_reading_rows_imports_no_pandas() -> None:
    code = """
import sys, tempfile, pathlib
from schemas.tables import PROMPTS
from stages.core.runs.shards import ShardFile, read_rows, rows_at
from schemas.prompts import PromptRow
from schemas.values import Image, text_message
PROMPT = PromptRow(
    id="a", label="b", source="c", task="d", messages=[text_message("user", "")], images=[Image(b"f", "g")]
)
path = pathlib.Path(tempfile.mkdtemp(), "x.parquet")
file = ShardFile(path, PROMPTS)
file.add(PROMPT); file.add(PROMPT); file.close()
assert list(read_rows(path, PROMPTS)) == [PROMPT, PROMPT] and list(rows_at(path, PROMPTS, [1])) == [PROMPT]
print("pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@given(
    st.lists(st.none() | st.lists(st.none() | st.booleans(), max_size=5), max_size=8),
    st.integers(0, 3),
)
def test_generated_tokens_are_counted_as_rows_count_them(generated: list[Any], start: int) -> None:
    ids = [[7] * (4 if own is None else len(own)) for own in generated]
    fields = {"token_ids": pa.array(ids, pa.list_(pa.int32())), "generated": pa.array(generated, pa.list_(pa.bool_()))}
    expected = [len(i) if own is None else sum(map(bool, own)) for i, own in zip(ids, generated, strict=True)]
    made = pa.StructArray.from_arrays(list(fields.values()), list(fields))
    # As a batch of a file is one: a slice of a longer array.
    assert generated_counts(made[start:]).tolist() == expected[start:]
    older = pa.StructArray.from_arrays([fields["token_ids"]], ["token_ids"])
    assert generated_counts(older[start:]).tolist() == [len(i) for i in ids[start:]]


@given(st.lists(st.text() | st.none(), max_size=6) | st.lists(st.text("ab", max_size=3), max_size=6), st.booleans())
def test_text_values_are_those_of_pyarrow(values: list[str | None], large: bool) -> None:
    whole = pa.array(["first", *values, "last"], pa.large_string() if large else pa.string())
    for array in (whole, whole.slice(1, len(values)), whole.slice(2)):
        assert text_values(array) == array.to_pylist()
