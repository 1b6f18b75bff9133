"""Which column is what: from a look at the first records to a reading that a person can check in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stages.core.errors import BadSample, InputError, UsageError, did_you_mean
from stages.core.field_paths import FieldPath, parse_path
from stages.reading.choices import letter_of, options_of
from stages.reading.layouts import table
from stages.reading.layouts.columns import Columns
from stages.reading.layouts.samples import record_options
from stages.reading.layouts.shapes import SHAPES, is_image, is_image_path, there, value_at
from stages.reading.layouts.table import COLUMNS, LAYOUTS, SETTINGS, Layout
from stages.reading.layouts.turns import as_turns
from stages.reading.plain_samples import KNOWN, LISTS, TEXTS

NAMES = (*KNOWN, *SETTINGS)
"""What `--map` may name."""
_OPTION = re.compile(
    r"(?P<letter>[A-J])|(?:option|choice|candidate|opt)[ _-]?(?:(?P<named>[a-j])|(?P<number>\d))", re.I
)
_NUMBERED = re.compile(r"(?:image|img)_?(\d{1,2})", re.IGNORECASE)
_CAPTIONS = ("caption", "text", "txt")
_OWN = ("source", "risk", "family", "parent_id", "scene", "answer_kind", "category", "task")
Records = list[dict[str, Any]]


def columns_of(records: Records, mapped: Mapping[str, str], name: str) -> Columns:
    """What the columns of these records are; `mapped` (our name -> their path) comes before anything else.

    UsageError for a name that is none of ours, InputError where nothing can be the prompt, and for layouts that
    `prepare` doesn't read.
    """
    for n in mapped:
        if n not in NAMES:
            raise UsageError(f"--map {n}=...: {n!r} is no name of a sample", did_you_mean(n, NAMES) or ", ".join(NAMES))
    return _Look(records, mapped, name).columns()


class _Look:
    """One look at the first records of a container."""

    def __init__(self, records: Records, mapped: Mapping[str, str], name: str) -> None:
        self._records, self._name = records, name
        self._seen = list(dict.fromkeys(c for r in records for c, v in r.items() if there(v)))
        self._by_name: dict[str, str] = {}
        for column in self._seen:
            self._by_name.setdefault(_plain(column), column)
        self._left_out = {n for n, path in mapped.items() if path in ("none", "")}
        self._fields = {n: parse_path(path) for n, path in mapped.items() if n not in self._left_out}
        if "image" in self._fields:
            self._fields["images"] = self._fields.pop("image")
        for n, found in self._fields.items():
            if found.constant is None and self._value(found) is None:
                hint = f"{did_you_mean(found.text, self._seen)} its columns: {', '.join(self._seen)}".lstrip()
                raise InputError(
                    f"--map {n}={found.text}: {name} has nothing there", f"{hint}; a constant needs quotes"
                )

    def columns(self) -> Columns:
        """What every column is, by layout first and by name then."""
        mapped = set(self._fields)
        layout = next((found for found in LAYOUTS if self._fits(found)), None)
        if layout is not None and layout.refused[0] and not mapped & {"response", "messages", "answer"}:
            raise InputError(f"{self._name} holds {layout.refused[0]}", layout.refused[1].format(name=self._name))
        for name, path in (layout.fields if layout else {}).items():
            self._take(name, path)
        if not self._has("messages") and not self._has("prompt"):
            self._find_messages()
        decided = self._left_out | set(self._fields)
        numbered = () if "images" in decided else _numbered(self._seen)
        if "images" not in decided and not numbered:
            self._find_images()
        letters = () if "choices" in decided else _letters(self._seen)
        for name in COLUMNS:
            if name == "choices" and letters:
                continue
            if name not in ("messages", "images"):
                self._find(name)
        self._find_by_words()
        self._find_label_of_options(letters)
        # A caption is what is to be said of an image, where nothing else asks for something.
        self._find_caption(bool(numbered))
        if not self._has("messages") and not self._has("prompt"):
            listed = ", ".join(self._seen) or "none"
            raise InputError(
                f"{self._name}: no column is known to be the prompt", f"--map prompt=COLUMN; its columns: {listed}"
            )
        left_out, seen = frozenset(self._left_out), frozenset(self._seen)
        columns = Columns(layout.name if layout else "", self._fields, letters, numbered, left_out=left_out, seen=seen)
        return _counted(columns, self._records)

    def _fits(self, layout: Layout) -> bool:
        for need in layout.needs:
            path, _, shape = need.partition(":")
            value = self._value(parse_path(path))
            value = (as_turns(value) or value) if shape else value
            if value is None or (shape and not SHAPES[shape](value)):
                return False
        return True

    def _value(self, path: FieldPath) -> Any:
        return next((v for r in self._records if there(v := value_at(path, r))), None)

    def _has(self, name: str) -> bool:
        return name in self._fields

    def _take(self, name: str, path: str) -> bool:
        """Read a name from a path, unless it is read from elsewhere, left out, or there is nothing of its kind."""
        other = {"messages": "prompt", "prompt": "messages"}.get(name)
        if name in self._fields or name in self._left_out or other in self._fields:
            return False
        found = parse_path(path) if path not in self._by_name.values() else FieldPath(path, (path,))
        value = self._value(found)
        taken = {w.text for w in self._fields.values() if w.constant is None}
        if value is None or found.text in taken or not _may_be(name, value, self._records, found):
            return False
        self._fields[name] = found
        return True

    def _find(self, name: str) -> None:
        for candidate in COLUMNS[name]:
            captions = self._has("answer") or not self._has("prompt")
            if name == "response" and candidate in _CAPTIONS and captions:
                continue
            # Of an image's records a text that nothing asks for is its caption.
            if name == "prompt" and candidate == "text" and self._has("images"):
                continue
            if (column := self._by_name.get(candidate)) and self._take(name, column):
                if name == "response" and candidate in _CAPTIONS and "answer" not in self._left_out:
                    # A text beside a question, and no other: what is to be said, and what it is compared with.
                    self._fields.setdefault("answer", self._fields[name])
                return

    def _find_messages(self) -> None:
        for candidate in (*COLUMNS["messages"], *COLUMNS["prompt"]):
            column = self._by_name.get(candidate)
            if (
                column
                and as_turns(self._value(FieldPath(column, (column,)))) is not None
                and self._take("messages", column)
            ):
                return

    def _find_images(self) -> None:
        taken = {w.text for w in self._fields.values()}
        named = [self._by_name[c] for c in COLUMNS["images"] if c in self._by_name]
        shaped = [c for c in self._seen if is_image(self._value(FieldPath(c, (c,))))]
        # Bytes before paths: a table that holds both names files of its maker's disk.
        paths = [c for c in self._seen if c not in taken and self._all_are_paths(c)]
        for column in (*(c for c in named if c in shaped), *named, *shaped[:1], *paths[:1]):
            if self._take("images", column):
                return

    def _find_by_words(self) -> None:
        """What no name says exactly: `question_text`, `Right Answer`, `correct_option`; the first such column."""
        for name, (telling, others) in table.COLUMN_WORDS.items():
            if name == "prompt" and self._has("messages"):
                continue
            for plain, column in self._by_name.items():
                words = set(plain.split("_"))
                if words <= telling | others and words & telling and self._take(name, column):
                    break
        # Beside an answer a text is what is asked, and no caption.
        if self._has("answer") and not self._has("messages") and "text" in self._by_name:
            self._take("prompt", self._by_name["text"])

    def _find_label_of_options(self, letters: tuple[str, ...]) -> None:
        """A class that is one of the row's options is its answer."""
        if (
            self._has("answer")
            or not (self._has("choices") or letters)
            or (column := self._by_name.get("label")) is None
        ):
            return
        columns = Columns("", self._fields, letters)
        for record in self._records:
            try:
                texts, labels = record_options(record, columns)
            except BadSample:
                continue
            if texts and letter_of(record.get(column), texts, labels) is None:
                return
        self._take("answer", column)

    def _all_are_paths(self, column: str) -> bool:
        """Whether it holds names of image files, whatever it is called."""
        values = [v for r in self._records if there(v := r.get(column))]
        return bool(values) and all(map(is_image_path, values))

    def _find_caption(self, numbered: bool) -> None:
        if self._has("prompt") or self._has("messages") or not (numbered or self._has("images")):
            return
        for candidate in _CAPTIONS:
            column = self._by_name.get(candidate)
            if column and not self._has("response") and self._take("response", column):
                self._fields["prompt"] = parse_path(repr(table.PROMPTS_FROM_CAPTIONS))
                return


def _numbered(columns: list[str]) -> tuple[str, ...]:
    """Columns that each hold an image: `image_1`, `image_2`, ... in order."""
    found = sorted((int(m[1]), c) for c in columns if (m := _NUMBERED.fullmatch(c)))
    return tuple(c for _, c in found)


def _letters(columns: list[str]) -> tuple[str, ...]:
    """Columns that each hold an option: `A`, `B`, ..., `Option A`, `option_b`, ..., or `choice1`, `choice2`, ..."""
    found: dict[str, list[str]] = {}
    for column in columns:
        # Small letters alone are names of anything: `a`, `b` of a sum.
        if (m := _OPTION.fullmatch(column)) and not (m["letter"] and column.islower()):
            found.setdefault(column[:-1].lower(), []).append(column)
    for alike in found.values():
        alike.sort(key=str.lower)
        if len(alike) > 1 and alike[0][-1].lower() in ("a", "0", "1"):
            return tuple(alike)
    return ()


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
        return all(isinstance(v, bool) for v in values)
    if name == "instructions":
        return all(isinstance(v, list) and all(isinstance(i, dict) and "kind" in i for i in v) for v in values)
    if name in LISTS:
        return all(isinstance(v, list) and all(isinstance(i, str) for i in v) for v in values)
    return all(isinstance(v, str) for v in values) if name in (*_OWN, *TEXTS) else True


def _are_options(value: Any) -> bool:
    try:
        return len(options_of(value)[0]) > 1
    except BadSample:
        return False


def _counted(columns: Columns, records: Records) -> Columns:
    """Whether references are numbers of options, counted from 1 where none is 0 and one is the last."""
    if "answer" not in columns.fields or not ("choices" in columns.fields or columns.letters):
        return columns
    numbers = []
    for record in records:
        value = value_at(columns.fields["answer"], record)
        try:
            texts, labels = record_options(record, columns)
        except BadSample:
            continue
        text = str(value).strip()
        if texts and re.fullmatch(r"\d{1,2}", text) and text not in labels and text not in texts:
            numbers.append((int(text), len(texts)))
    one = any(n == last for n, last in numbers) and not any(n == 0 for n, _ in numbers)
    return replace(columns, by_number=bool(numbers), first=int(one))
