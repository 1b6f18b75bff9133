"""A row's references: cleaned of what nothing can equal, with the kind in which they are compared.

answer       text, a number, or a list of them: further ones are as right as the first; with choices, a list of
             letters or `AC` means several right options
answer_kind  left out: choices mean choice (choices for several), a number or numeric text number, label math or a
             backslash math, anything else text
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stages.core.errors import BadSample
from stages.reading.choices import letter_of

KINDS = ("number", "choice", "choices", "text", "math")
# `1,234.5`, `$3`, `-5`, `3/4`, `50 %`, `1e-05`. `007` is a name and no number.
_NUMBER = re.compile(
    r"[-+\u2212]?\s?[$€£]?\s?(?:0|[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d*)?(?:\.\d+)?(?:[eE][-+]?\d+)?(?:/[1-9]\d*)?\s?\\?%?"
)
_LETTERS = re.compile(r"[A-Z](?:\s*(?:[,;/&、]|and)?\s*[A-Z])+")
_NOTHING = frozenset(["nan", "inf", "-inf", "infinity", "-infinity", "+inf"])
_RULES = ("relative", "absolute", "partial")


class References(NamedTuple):
    """What a row's answer column says."""

    answer: str | None
    kind: str | None
    accepted: list[str]
    rule: str | None


NONE = References(None, None, [], None)


def references(item: Mapping[str, Any], label: str, kind: str) -> References:
    """The references of a sample; BadSample `malformed` for one that no completion could equal."""
    if kind and kind not in KINDS:
        raise _wrong("answer_kind", kind, f"one of {', '.join(KINDS)}")
    given, choices = item.get("answer"), item.get("choices")
    # Most rows have one text and say nothing else of it.
    if isinstance(given, str) and not choices and not item.get("accepted") and item.get("answer_rule") is None:
        return one_reference(given, label, kind)
    values = list(given) if isinstance(given, list) else [given]
    if not values or values == [None]:
        return NONE
    texts = list(dict.fromkeys(_cleaned(value) for value in values))
    # The letters of several right options are one reference.
    if choices and isinstance(given, list) and len(texts) > 1:
        texts = ["".join(sorted(filter(None, (letter_of(text, choices) for text in texts))))]
    if choices and not (several := several_letters(texts[0], choices)):
        texts = [_option(text, choices) for text in texts]
    elif choices and several:
        kind = kind or "choices"
    accepted = [*texts[1:], *(_cleaned(value) for value in item.get("accepted") or [])]
    return References(texts[0], kind or _kind(texts, choices, label), accepted, _rule(item.get("answer_rule")))


def one_reference(text: str, label: str, kind: str) -> References:
    """The reference of a row that has one text, no choices and no rule; BadSample as `references` has it."""
    return References(_cleaned(text), kind or _kind([text], None, label), [], None)


def _wrong(name: str, value: Any, expected: str) -> BadSample:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return BadSample("malformed", f"column {name!r} is {shown} ({type(value).__name__}), and must be {expected}")


def says_nothing(value: Any) -> bool:
    """Whether a value is how tables leave a reference out: null, NaN, infinity, an empty text."""
    if isinstance(value, float):
        return not math.isfinite(value)
    return value is None or (isinstance(value, str) and (not value.strip() or value.strip().lower() in _NOTHING))


def _cleaned(value: Any) -> str:
    """A reference as text; BadSample for NaN, infinity, an empty text and what is no text or number."""
    # A bool is an int in Python; `answer: true` is no number.
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _wrong("answer", value, "text or a number, or a list of them")
    if says_nothing(value):
        raise _wrong("answer", value, "something that a completion can equal; leave it out where there is no reference")
    return _shortest(value) if isinstance(value, float) else str(value)


def _shortest(value: float) -> str:
    """A number without the noise of its storage: a float32's 0.10000000149011612 is 0.1."""
    text = repr(value)
    digits = sum(c.isdigit() for c in text.partition("e")[0].lstrip("0."))
    if digits <= 9:
        return text
    # As many digits as it takes to come back to the same float32.
    if struct.unpack("f", struct.pack("f", value))[0] == value:
        return next(short for n in range(6, 10) if _as_float32(short := f"{value:.{n}g}") == value)
    return f"{value:.15g}"


def _as_float32(text: str) -> float:
    return float(struct.unpack("f", struct.pack("f", float(text)))[0])


def several_letters(text: str, choices: Sequence[str]) -> bool:
    """Whether a reference is made of the letters of several options of the row."""
    if text in choices or not _LETTERS.fullmatch(text.strip()):
        return False
    letters = [c for c in text.replace("and", "") if c.isalpha()]
    return len(set(letters)) == len(letters) and max(letters) < chr(65 + len(choices))


def _option(text: str, choices: Any) -> str:
    """The letter of an option that is named by its number, counted from 0 as lists are; other references as they are.

    BadSample where there is no such option: nothing could ever equal it.
    """
    if not isinstance(choices, list) or not text.strip().isdigit() or text in choices:
        return text
    if (letter := letter_of(text, choices)) is None:
        raise _wrong("answer", text, f"a letter, a text or a number of the {len(choices)} choices, the first is 0")
    return letter


def _kind(texts: list[str], choices: Any, label: str) -> str:
    if choices:
        return "choice"
    if label == "math":
        return "math"
    if all(_NUMBER.fullmatch(text.strip()) and any(map(str.isdigit, text)) for text in texts):
        return "number"
    return "math" if any("\\" in text for text in texts) else "text"


def _rule(value: Any) -> str | None:
    """How exact, as canonical JSON; BadSample for a rule that is none."""
    if value is None:
        return None
    try:
        rule = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        rule = None
    if (
        not isinstance(rule, dict)
        or len(rule) != 1
        or next(iter(rule)) not in _RULES
        or not isinstance(size := next(iter(rule.values())), int | float)
        or not 0 <= size < math.inf
    ):
        raise _wrong("answer_rule", value, f"an object with one of {', '.join(_RULES)} and a number")
    return json.dumps(rule)
