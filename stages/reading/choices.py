"""Options of a choice question in the forms people store, and which of them a reference means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stages.core.errors import BadSample
from stages.reading.literals import opened

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What replies name options by. No further ones: `AB` is how replies and files name two right options."""
TOO_MANY = "too_many_options"
_TEXT_KEYS, _LABEL_KEYS = ("text", "value", "content", "option"), ("label", "key", "id", "letter")
_LETTERED = re.compile(r"(?:^|[\n;]|(?<=\s))\s*\(?([A-Z])[).:]\s*")
_BARE = re.compile(r"\(?\s*([A-Za-z])\s*[).:]?")


def options_of(value: Any) -> tuple[list[str], list[str]]:
    """(texts, labels) of options: a list, a dict by letter, {"text": [...], "label": [...]}, or any of them as text.

    BadSample `malformed` for anything else, `too_many_options` for more than there are letters. Labels are letters
    where none are given.
    """
    if isinstance(value, str):
        value = _written(value)
    if isinstance(value, Mapping):
        texts, labels = (
            next((value[k] for k in keys if isinstance(value.get(k), list)), None) for keys in (_PLURAL, _LABELS)
        )
        if texts is not None:
            value, given = texts, labels or []
        else:
            # Parquet makes one struct of all keys in a column; letters that a row lacks are null there.
            present = {str(k): v for k, v in value.items() if v is not None}
            value, given = list(present.values()), list(present)
    elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
        given = [next((str(v[k]) for k in _LABEL_KEYS if k in v), "") for v in value]
        value = [next((v[k] for k in _TEXT_KEYS if k in v), None) for v in value]
    else:
        given = []
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        # A list in a list: no question has one option.
        value = value[0]
    if not isinstance(value, list) or any(isinstance(v, Mapping | list | bytes) or v is None for v in value):
        raise BadSample("malformed", f"options are {str(value)[:60]!r}, and must be a list or a dict of texts")
    if len(value) > len(LETTERS):
        raise BadSample(
            TOO_MANY,
            f"there are {len(value)} options, and replies name one of {len(LETTERS)} by its letter: "
            "--map choices=none compares the answer by its words",
        )
    texts = _without_letters([str(v) for v in value])
    labels = (
        [str(g) for g in given]
        if len(given) == len(texts) and all(str(g) for g in given)
        else list(LETTERS[: len(texts)])
    )
    return texts, labels


def _without_letters(texts: list[str]) -> list[str]:
    """Options without the letters that each of them begins with: `A. cat`, `B. dog`."""
    marks = [re.match(rf"\(?{letter}[).:]\s*(?=\S)", text) for letter, text in zip(LETTERS, texts, strict=False)]
    return [text[m.end() :] for text, m in zip(texts, marks, strict=True) if m] if all(marks) else texts


_PLURAL, _LABELS = ("text", "texts", "choices", "options"), ("label", "labels", "letters")


def _written(text: str) -> Any:
    """Options that were written into one text: a Python or JSON list or dict, or `(A) cat (B) dog`."""
    if not isinstance(found := opened(text), str):
        return found
    stripped = text.strip()
    marks = list(_LETTERED.finditer(stripped))
    if len(marks) > 1 and [m[1] for m in marks] == list(LETTERS[: len(marks)]):
        ends = [*(m.start() for m in marks[1:]), len(stripped)]
        return [stripped[m.end() : end].strip(" ;\n") for m, end in zip(marks, ends, strict=True)]
    separator = "\n" if "\n" in stripped else ";" if ";" in stripped else ""
    return [part.strip() for part in stripped.split(separator)] if separator else text


def listed_in(text: str) -> Any:
    """The options that a question lists, without what it says after them: `(A) cat\n(B) dog\n\nAnswer by letter.`"""
    marks = list(_LETTERED.finditer(text))
    end = text.find("\n\n", marks[-1].end()) if marks else -1
    return _written(text if end < 0 else text[:end])


def letter_of(answer: Any, texts: list[str], labels: list[str] | None = None, first: int = 0) -> str | None:
    """The letter of the option that a reference means: by its text, its label or its number counted from `first`.

    None where it is none of them. Text comes before number: of the options 3, 4 and 5, the answer 4 is the second.
    """
    labels = labels or list(LETTERS[: len(texts)])
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        return None
    if isinstance(answer, float) and not answer.is_integer():
        return LETTERS[texts.index(str(answer))] if texts.count(str(answer)) == 1 else None
    text = str(int(answer)) if isinstance(answer, float) else str(answer).strip()
    bare = _BARE.fullmatch(text)
    for expected, among in ((text, labels), (bare[1].upper() if bare else text, labels), (text, texts)):
        if among.count(expected) == 1:
            return LETTERS[among.index(expected)]
    # Two options with one text: the reference says no more than that, and either is as right.
    if text in texts:
        return LETTERS[texts.index(text)]
    folded = [t.strip().casefold() for t in texts]
    if folded.count(text.casefold()) == 1:
        return LETTERS[folded.index(text.casefold())]
    if re.fullmatch(r"\d{1,2}", text) and 0 <= int(text) - first < len(texts):
        return LETTERS[int(text) - first]
    # `B. dog`, `(B) dog`: the letter with the option's own text after it.
    lead = re.fullmatch(r"\(?([A-Za-z])[).:]\s*(.+)", text, re.DOTALL)
    if lead and lead[1].upper() in labels and folded[labels.index(lead[1].upper())] == lead[2].strip().casefold():
        return LETTERS[labels.index(lead[1].upper())]
    return None
