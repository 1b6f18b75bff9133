"""Which column is what: from a look at the first records to a reading that a person can check in one line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from stages.core.errors import BadSample, InputError, UsageError, did_you_mean
from stages.core.field_paths import parse_path
from stages.reading.choices import letter_of
from stages.reading.layouts import table
from stages.reading.layouts.assignment import Assignment, Records
from stages.reading.layouts.columns import Columns
from stages.reading.layouts.samples import record_options
from stages.reading.layouts.shapes import SHAPES, is_image, is_image_path, there, value_at
from stages.reading.layouts.table import COLUMNS, LAYOUTS, SETTINGS, Layout
from stages.reading.layouts.turns import as_turns
from stages.reading.plain_samples import KNOWN

NAMES = (*KNOWN, *SETTINGS)
"""What `--map` may name."""
_OPTION = re.compile(
    r"(?P<letter>[A-J])|(?:option|choice|candidate|opt)[ _-]?(?:(?P<named>[a-j])|(?P<number>\d))", re.I
)
_NUMBERED = re.compile(r"(?:image|img)_?(\d{1,2})", re.IGNORECASE)
_CAPTIONS = ("caption", "text", "txt")


def columns_of(records: Records, mapped: Mapping[str, str], name: str) -> Columns:
    """What the columns of these records are; `mapped` (our name -> their path) comes before anything else.

    UsageError for a name that is none of ours, InputError where nothing can be the prompt, and for layouts that
    `prepare` doesn't read.
    """
    for n in mapped:
        if n not in NAMES:
            raise UsageError(f"--map {n}=...: {n!r} is no name of a sample", did_you_mean(n, NAMES) or ", ".join(NAMES))
    return _columns(Assignment(records, mapped, name))


def _columns(known: Assignment) -> Columns:
    """What every column is, by layout first and by name then."""
    mapped = set(known.fields)
    layout = next((found for found in LAYOUTS if _fits(known, found)), None)
    if layout is not None and layout.refused[0] and not mapped & {"response", "messages", "answer"}:
        raise InputError(f"{known.name} holds {layout.refused[0]}", layout.refused[1].format(name=known.name))
    for name, path in (layout.fields if layout else {}).items():
        known.take(name, path)
    if not known.has("messages") and not known.has("prompt"):
        _find_messages(known)
    decided = known.left_out | set(known.fields)
    numbered = () if "images" in decided else numbered_columns(known.seen)
    if "images" not in decided and not numbered:
        _find_images(known)
    letters = () if "choices" in decided else letter_columns(known.seen) or _small_letters(known)
    for name in COLUMNS:
        if name == "choices" and letters:
            continue
        if name not in ("messages", "images"):
            _find(known, name)
    _find_by_words(known)
    _find_label_of_options(known, letters)
    # A caption is what is to be said of an image, where nothing else asks for something.
    _find_caption(known, bool(numbered))
    if not known.has("messages") and not known.has("prompt"):
        listed = ", ".join(map(_with_inside, known.seen, map(known.first, known.seen))) or "none"
        raise InputError(
            f"{known.name}: no column is known to be the prompt", f"--map prompt=COLUMN; its columns: {listed}"
        )
    left_out, seen = frozenset(known.left_out), frozenset(known.seen)
    columns = Columns(layout.name if layout else "", known.fields, letters, numbered, left_out=left_out, seen=seen)
    return _counted(columns, known.records)


def _with_inside(column: str, value: object) -> str:
    """A column's name; of one that holds objects the paths into them, as `--map` takes them."""
    return ", ".join(f"{column}.{name}" for name in value) if isinstance(value, Mapping) and value else column


def _fits(known: Assignment, layout: Layout) -> bool:
    for need in layout.needs:
        path, _, shape = need.partition(":")
        value = known.value(parse_path(path))
        value = (as_turns(value) or value) if shape else value
        if value is None or (shape and not SHAPES[shape](value)):
            return False
    return True


def _find(known: Assignment, name: str) -> None:
    for candidate in COLUMNS[name]:
        captions = known.has("answer") or not known.has("prompt")
        if name == "response" and candidate in _CAPTIONS and captions:
            continue
        # Of an image's records a text that nothing asks for is its caption.
        if name == "prompt" and candidate == "text" and known.has("images"):
            continue
        if (column := known.by_name.get(candidate)) and known.take(name, column):
            if name == "response" and candidate in _CAPTIONS and "answer" not in known.left_out:
                # A text beside a question, and no other: what is to be said, and what it is compared with.
                known.fields.setdefault("answer", known.fields[name])
            return


def _find_messages(known: Assignment) -> None:
    for candidate in (*COLUMNS["messages"], *COLUMNS["prompt"]):
        column = known.by_name.get(candidate)
        if column and as_turns(known.first(column)) is not None and known.take("messages", column):
            return


def _find_images(known: Assignment) -> None:
    taken = {w.text for w in known.fields.values()}
    named = [known.by_name[c] for c in COLUMNS["images"] if c in known.by_name]
    shaped = [c for c in known.seen if is_image(known.first(c))]
    # Bytes before paths: a table that holds both names files of its maker's disk.
    paths = [c for c in known.seen if c not in taken and _all_are_paths(known, c)]
    for column in (*(c for c in named if c in shaped), *named, *shaped[:1], *paths[:1]):
        if known.take("images", column):
            return


def _find_by_words(known: Assignment) -> None:
    """What no name says exactly: `question_text`, `Right Answer`, `correct_option`; the first such column."""
    for name, (telling, others) in table.COLUMN_WORDS.items():
        if name == "prompt" and known.has("messages"):
            continue
        for plain, column in known.by_name.items():
            words = set(plain.split("_"))
            if words <= telling | others and words & telling and known.take(name, column):
                break
    # Beside an answer a text is what is asked, and no caption.
    if known.has("answer") and not known.has("messages") and "text" in known.by_name:
        known.take("prompt", known.by_name["text"])


def _small_letters(known: Assignment) -> tuple[str, ...]:
    """Columns `a`, `b`, ..., which are names of anything, as options where the answer is always one of those names."""
    found = tuple(itertools.takewhile(known.seen.__contains__, "abcdefghij"))
    asked = next((known.by_name[c] for c in COLUMNS["answer"] if c in known.by_name), None)
    answers = [str(value).strip().lower() for r in known.records if there(value := r.get(asked))] if asked else []
    return found if len(found) > 1 and answers and all(a in found for a in answers) else ()


def _find_label_of_options(known: Assignment, letters: tuple[str, ...]) -> None:
    """A class that is one of the row's options is its answer."""
    if known.has("answer") or not (known.has("choices") or letters) or (column := known.by_name.get("label")) is None:
        return
    columns = Columns("", known.fields, letters)
    for record in known.records:
        try:
            texts, labels = record_options(record, columns)
        except BadSample:
            continue
        if texts and letter_of(record.get(column), texts, labels) is None:
            return
    known.take("answer", column)


def _all_are_paths(known: Assignment, column: str) -> bool:
    """Whether it holds names of image files, whatever it is called."""
    values = [v for r in known.records if there(v := r.get(column))]
    return bool(values) and all(map(is_image_path, values))


def _find_caption(known: Assignment, numbered: bool) -> None:
    if known.has("prompt") or known.has("messages") or not (numbered or known.has("images")):
        return
    for candidate in _CAPTIONS:
        column = known.by_name.get(candidate)
        if column and not known.has("response") and known.take("response", column):
            known.fields["prompt"] = parse_path(repr(table.PROMPTS_FROM_CAPTIONS))
            return


def numbered_columns(columns: Iterable[str]) -> tuple[str, ...]:
    """Columns that each hold an image: `image_1`, `image_2`, ... in order."""
    found = sorted((int(m[1]), c) for c in columns if (m := _NUMBERED.fullmatch(c)))
    return tuple(c for _, c in found)


def letter_columns(columns: Iterable[str]) -> tuple[str, ...]:
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
