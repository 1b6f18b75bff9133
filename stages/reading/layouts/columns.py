"""What a record's columns are: our names and where the value of each lies, as a person checks them in one line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from stages.core.field_paths import FieldPath
from stages.reading.layouts import table


@dataclass(frozen=True, slots=True)
class Columns:
    """What is read from where."""

    layout: str
    """The layout's name, "" where no layout is known and columns speak for themselves."""
    fields: dict[str, FieldPath]
    """Our name -> where its value lies."""
    letters: tuple[str, ...] = ()
    """Columns that each hold an option, in order."""
    numbered: tuple[str, ...] = ()
    """Columns that each hold an image, in order."""
    first: int = 0
    """What options are counted from where a reference is a number."""
    by_number: bool = False
    """Whether references are numbers of options."""
    with_letters: bool = False
    """Whether options are written below a question that names them without their letters."""
    left_out: frozenset[str] = field(default_factory=frozenset)
    """Our names that a person wants read from nowhere."""
    seen: frozenset[str] = field(default_factory=frozenset)
    """The columns that held something in the records that were looked at."""

    def used(self) -> set[str]:
        """The columns that are read whole."""
        whole = {w.text for w in self.fields.values() if len(w.steps) == 1}
        return {*whole, *self.letters, *self.numbered}

    def line(self) -> str:
        """What is read from where, as a person reads it."""
        order = ("messages", "prompt", "answer", "images", "image", "choices", "response")
        names = sorted(self.fields, key=lambda n: (order.index(n) if n in order else len(order), n))
        parts = []
        for name in names:
            counted = f" (counted from {self.first})" if name == "answer" and self.by_number else ""
            found = self.fields[name]
            text = repr(found.constant) if found.constant is not None else found.text
            parts.append(f"{text} -> {name}{counted}")
        if self.letters:
            parts.append(f"{self.letters[0]}..{self.letters[-1]} -> choices")
        if self.numbered:
            parts.append(f"{self.numbered[0]}..{self.numbered[-1]} -> images")
        return ", ".join(parts)

    def overlooked(self) -> str:
        """Columns that look like an answer, a pair or an image and are not read; "" without any."""
        found = []
        touched = {w.steps[0] for w in self.fields.values() if w.steps} | self.used()
        for column in sorted(self.seen - touched):
            words = {word.removesuffix("s") for word in re.split(r"[^a-z]+", column.lower())}
            for kind, known, name in (
                ("a pair", table.PAIR_WORDS, "response"),
                ("an answer", table.ANSWER_WORDS, "answer"),
                ("an image", table.IMAGE_WORDS, "images"),
                ("what a question is about", table.PASSAGE_WORDS, "hint"),
            ):
                if words & {word.removesuffix("s") for word in known}:
                    if name in self.left_out:
                        break
                    found.append(f"{column} looks like {kind} (--map {name}={column})")
                    break
        return f"not used: {', '.join(found)}" if found else ""
