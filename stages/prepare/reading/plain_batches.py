"""Rows of a table that are a question and its answer, made column by column: no object a row but its record.

Most tables are no more than that. What a row has beyond it, or instead of it, sends that row to `draft_of`, by which
all rows are made that a table does not hold: both make the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.arrow import arrow_schema
from schemas.columns import column
from schemas.identity import content_id
from schemas.tables import PROMPTS
from stages.core.errors import BadSample
from stages.prepare.datasets.base import Record
from stages.prepare.kept_rows import KeptRows
from stages.prepare.reading.records import images_key, record_of, rejected_record
from stages.reading.plain_samples import IMAGE_MARK, IMAGES, TEXTS, Defaults, draft_of, images_of
from stages.reading.references import NONE, one_reference
from stages.reading.unread_images import UnreadImage

_PLAIN = frozenset(("prompt", "answer", *IMAGES, *TEXTS))
_IMAGE_PART = ("image", None)


def are_plain(names: Mapping[str, str], schema: pa.Schema) -> bool:
    """Whether a table with these columns (our name -> its own) may hold plain rows: words are text in all of them."""
    texts = (schema.field(names[name]).type for name in names if name not in IMAGES)
    return (
        "prompt" in names
        and _PLAIN.issuperset(names)
        and all(pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in texts)
    )


class PlainBatches:
    """The records of such a table, batch by batch, their rows kept as columns."""

    def __init__(self, defaults: Defaults, image: Callable[[Any, str], UnreadImage]) -> None:
        self._defaults, self._image = defaults, image
        self._plain, self._others = KeptRows(), KeptRows()
        self._columns = _Columns(sorted(set(defaults.flags)))

    def records(self, values: Mapping[str, list[Any]], places: Iterable[tuple[str, Any]]) -> list[Record]:
        """One record a row: `values` by our names, `places` the row's ref and payload."""
        count, first = len(values["prompt"]), self._plain.number
        absent: list[Any] = [None] * count
        given = {name: values.get(name, absent) for name in (*_OF_RECORDS, *_CARRIED)}
        images = {name: values[name] for name in IMAGES if name in values}
        rows = self._columns
        found = []
        for n, ((ref, payload), prompt, answer, label, task, split, family) in enumerate(
            zip(places, *(given[name] for name in _OF_RECORDS), strict=True)
        ):
            label, split = label or self._defaults.label, split or self._defaults.split
            try:
                if not _is_plain(prompt, split):
                    draft = draft_of({name: column[n] for name, column in values.items()}, self._defaults, self._image)
                    found.append(record_of(draft, ref, payload, self._others))
                    continue
                item = {name: column[n] for name, column in images.items()}
                hashes = [picture.digest() for picture in images_of(item, self._image)] if images else []
                reference = NONE if answer is None else one_reference(answer, label, self._defaults.answer_kind)
            except BadSample as bad:
                found.append(rejected_record(ref, bad))
                continue
            task = task or self._defaults.task or label
            parts: list[tuple[str, str | None]] = [*[_IMAGE_PART] * len(hashes), ("text", prompt)]
            key = content_id(label, [("user", parts)], hashes, answer)
            at = first + rows.add(n, parts, (key, label, task, split, answer, reference.kind))
            found.append(
                Record(
                    *(ref, key, label, task, split, prompt, self._columns.flags, payload, None, images_key(hashes)),
                    *(answer, family or "", self._plain, at),
                )
            )
        if rows.lines:
            self._plain.keep_columns(rows.table({name: given[name] for name in _CARRIED}, self._defaults.source))
        return found


def _is_plain(prompt: str | None, split: str) -> bool:
    return prompt is not None and IMAGE_MARK not in prompt and bool(prompt.strip()) and split in ("train", "test")


_OF_RECORDS = ("prompt", "answer", "label", "task", "split", "family")
_CARRIED = ("source", "category", "risk", "family", "parent_id", "scene")
"""Texts that a row has as the table has them."""


class _Columns:
    """The plain rows of one batch on their way into a table."""

    def __init__(self, flags: list[str]) -> None:
        self.flags = tuple(flags)
        self._schema = arrow_schema(PROMPTS).remove_metadata()
        self._constant = {"flags": flags, "images": []}
        self._constants: dict[tuple[str, int], pa.Array] = {}
        self._begin()

    def _begin(self) -> None:
        self.lines: list[int] = []
        """Where in the batch each row stands."""
        self._made: list[tuple[Any, ...]] = []
        self._parts: list[tuple[str, str | None]] = []
        self._ends = [0]

    def add(self, line: int, parts: list[tuple[str, str | None]], made: tuple[Any, ...]) -> int:
        """Take in one row: the parts of its turn, and its values in the order of `_MADE`; its number here."""
        self._made.append(made)
        self._parts += parts
        self._ends.append(len(self._parts))
        self.lines.append(line)
        return len(self.lines) - 1

    def table(self, carried: Mapping[str, list[Any]], source: str) -> pa.Table:
        """The rows as a table of prompts, with what they carry of the batch's columns; the next batch begins."""
        count = len(self.lines)
        values: dict[str, list[Any]] = {n: [given[k] for k in self.lines] for n, given in carried.items()}
        values["source"] = [given or source for given in values["source"]]
        values |= zip(_MADE, map(list, zip(*self._made, strict=True)), strict=True)
        found = []
        for field in self._schema:
            if field.name == "messages":
                found.append(self._messages(field.type))
            elif field.name in values:
                found.append(column(values[field.name], field.type))
            else:
                found.append(self._same(field, count))
        self._begin()
        return pa.Table.from_arrays(found, schema=self._schema)

    def _messages(self, kind: pa.DataType) -> pa.Array:
        """One turn of the user's a row."""
        turn, count = kind.value_type, len(self.lines)
        parts = turn.field("content").type
        types, texts = zip(*self._parts, strict=True)
        inside = [column(list(types), pa.string()), column(list(texts), pa.string())]
        contents = _lists(parts, np.array(self._ends, np.int32), _structs(parts.value_type, inside))
        turns = _structs(turn, [column(["user"] * count, pa.string()), contents])
        return _lists(kind, np.arange(count + 1, dtype=np.int32), turns)

    def _same(self, field: pa.Field, count: int) -> pa.Array:
        """What such rows have alike: nothing, an empty list, the source's flags."""
        if (field.name, count) not in self._constants:
            nothing = self._constant.get(field.name, [] if pa.types.is_list(field.type) else None)
            self._constants[field.name, count] = column([nothing] * count, field.type)
        return self._constants[field.name, count]


_MADE = ("id", "label", "task", "split", "answer", "answer_kind")


def _structs(kind: pa.DataType, columns: list[pa.Array]) -> pa.Array:
    return pa.StructArray.from_arrays(columns, fields=list(kind))


def _lists(kind: pa.DataType, offsets: np.ndarray[Any, Any], inside: pa.Array) -> pa.Array:
    return pa.Array.from_buffers(kind, len(offsets) - 1, [None, pa.py_buffer(offsets)], 0, children=[inside])
