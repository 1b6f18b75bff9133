"""Words of a text in one spelling, so that phrases can be looked for at word boundaries."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Chinese and Japanese characters one by one (no spaces mark words there), numbers, words like `can't`.
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\d+(?:[.,]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)*")
# NFKC leaves these as they are: curly quotes, the modifier apostrophe, the minus sign of mathematics.
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201b": "'", "\u02bc": "'", "\u2212": "-", "\u2044": "/"})
# NFKC makes `10\u2075` a hundred and five and `3\u00bd` thirty-one halves.
_RAISED = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207a\u207b]+")
_FRACTION = re.compile(r"(\d?)([\u00bc-\u00be\u2150-\u215e])")
_SIGNED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\d+(?:[.,]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)*|[^\s\w]|_")


def plain(text: str) -> str:
    """The text with compatibility characters, curly quotes and long minus signs in their common form."""
    if text.isascii():
        return text
    text = _RAISED.sub(lambda m: "^" + unicodedata.normalize("NFKC", m.group()), text)
    text = _FRACTION.sub(
        lambda m: m.group(1) + " " * bool(m.group(1)) + unicodedata.normalize("NFKC", m.group(2)), text
    )
    return unicodedata.normalize("NFKC", text).translate(_QUOTES)


@lru_cache(maxsize=8192)
def signed(text: str) -> tuple[str, ...]:
    """Words and signs in their order, in lower case: `-5` and `5`, `C++` and `C`, `(2, 3)` and `(3, 2)` differ."""
    return tuple(_SIGNED.findall(plain(text).lower()))


# Few and long: several verifiers look at one completion, one after the other.
@lru_cache(maxsize=64)
def spaced(text: str) -> str:
    """The words in lower case, one space between and around them: `" sorry i can not help "`.

    Punctuation and white space go, so `phrase in text` is a whole-word test when both are spaced.
    """
    return f" {' '.join(_TOKEN.findall(plain(text).lower()))} "


@lru_cache(maxsize=8192)
def phrase(text: str) -> str:
    """`spaced` for short texts that come again and again: references, markers, hazards."""
    return f" {' '.join(_TOKEN.findall(plain(text).lower()))} "


def contains(text: str, part: str) -> bool:
    """Whether the part's words occur in the text next to each other; False for a part without words."""
    words = phrase(part)
    return len(words) > 2 and words in spaced(text)


def first_found(text: str, parts: list[str]) -> str | None:
    """The first of the parts that the text contains, or None."""
    words = spaced(text)
    return next((p for p in parts if len(phrase(p)) > 2 and phrase(p) in words), None)
