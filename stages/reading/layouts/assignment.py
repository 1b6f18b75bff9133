"""Which of our names is read from which column: what is decided so far, and by what it may be decided further."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stages.core.errors import BadSample, InputError, did_you_mean
from stages.core.field_paths import LEFT_OUT, FieldPath, parse_path
from stages.reading.choices import TOO_MANY, options_of
from stages.reading.layouts import table
from stages.reading.layouts.shapes import is_image, there, value_at
from stages.reading.layouts.turns import as_turns
from stages.reading.plain_samples import LISTS, TEXTS, listed_in
from stages.reading.spellings import flag_in

_OWN = ("source", "risk", "family", "parent_id", "scene", "answer_kind", "category", "task")
Records = list[dict[str, Any]]


class Assignment:
    """The columns of a container's first records, and which name of ours each has been given."""

    def __init__(self, records: Records, mapped: Mapping[str, str], name: str) -> None:
        self.records, self.name = records, name
        self.seen = list(dict.fromkeys(c for r in records for c, v in r.items() if there(v)))
        self.by_name: dict[str, str] = {}
        for column in self.seen:
            self.by_name.setdefault(_plain(column), column)
        self.left_out = {n for n, path in mapped.items() if path in (LEFT_OUT, "")}
        self.fields = {n: parse_path(path) for n, path in mapped.items() if n not in self.left_out}
        if "image" in self.fields:
            self.fields["images"] = self.fields.pop("image")
        for n, found in self.fields.items():
            if found.constant is None and self.value(found) is None:
                hint = f"{did_you_mean(found.text, self.seen)} its columns: {', '.join(self.seen)}".lstrip()
                raise InputError(
                    f"--map {n}={found.text}: {name} has nothing there", f"{hint}; a constant needs quotes"
                )

    def value(self, path: FieldPath) -> Any:
        """The first value that any of the records has there; None without any."""
        return next((v for r in self.records if there(v := value_at(path, r))), None)

    def first(self, column: str) -> Any:
        """The first value of a column."""
        return self.value(FieldPath(column, (column,)))

    def has(self, name: str) -> bool:
        """Whether it is known where the name is read from."""
        return name in self.fields

    def take(self, name: str, path: str) -> bool:
        """Read a name from a path, unless it is read from elsewhere, left out, or there is nothing of its kind."""
        other = {"messages": "prompt", "prompt": "messages"}.get(name)
        if name in self.fields or name in self.left_out or other in self.fields:
            return False
        found = parse_path(path) if path not in self.by_name.values() else FieldPath(path, (path,))
        taken = {w.text for w in self.fields.values() if w.constant is None}
        if found.text in taken:
            return False
        # An object is asked for its one plain value: {"text": ["Paris"], "answer_start": [3]}.
        inside = (
            [FieldPath(f"{path}.{n}", (*found.steps, n)) for n in table.INSIDE] if name in table.MAY_BE_INSIDE else []
        )
        for at in (found, *inside):
            value = self.value(at)
            if value is not None and _may_be(name, value, self.records, at):
                self.fields[name] = at
                return True
        return False


def _plain(column: str) -> str:
    return re.sub(r"[\s-]+", "_", column.strip().lower())


def _may_be(name: str, value: Any, records: Records, found: FieldPath) -> bool:
    """Whether a value is of the kind that a name needs."""
    if name == "messages":
        return as_turns(value) is not None
    if name in ("prompt", "input", "hint", "system"):
        return isinstance(value, str) and as_turns(value) is None
    if name == "history":
        return isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value)
    if name == "response":
        return (isinstance(value, str) and bool(value.strip())) or as_turns(value) is not None
    if name == "choices":
        return _are_options(value)
    if name == "answer":
        return isinstance(value, str | int | float | list) and not is_image(value)
    values = [v for r in records if there(v := value_at(found, r))]
    if name == "label":
        return all(v in table.LABELS for v in values)
    if name == "split":
        return all(isinstance(v, str) and v.lower().startswith(table.SPLITS) for v in values)
    if name == "harmful":
        return all(isinstance(flag_in(v), bool) for v in values)
    if name == "instructions":
        lists = [listed_in(v) for v in values]
        # Of kinds alone the arguments lie beside them.
        return all(
            isinstance(v, list) and all(isinstance(i, str) or (isinstance(i, dict) and "kind" in i) for i in v)
            for v in lists
        )
    if name == "instruction_arguments":
        lists = [listed_in(v) for v in values]
        return all(isinstance(v, list) and all(i is None or isinstance(i, dict) for i in v) for v in lists)
    if name in LISTS:
        return all(isinstance(v, list) and all(isinstance(i, str) for i in v) for v in values)
    return all(isinstance(v, str) for v in values) if name in (*_OWN, *TEXTS) else True


def _are_options(value: Any) -> bool:
    try:
        return len(options_of(value)[0]) > 1
    except BadSample as bad:
        return bad.reason == TOO_MANY
