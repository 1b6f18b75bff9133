r"""Answers that are numbers: which one a completion settles on, and whether it is the reference.

A marked answer gives its first number: `5 (see step 3)`, `24 \text{ m}^2`, `1.5 \times 10^5`, `3\frac{1}{2}`, `50\%`.
A part of an expression (`x+5`, `\sqrt{2}`), a bound (`<42`), an alternative (`42 or 43`) and a denial are no answer.
Where nothing is marked the last number counts, as in GSM8K.
"""

from __future__ import annotations

import re
from fractions import Fraction

from stages.score.answers.markers import ABSTAINS, AND, LABELS, NEGATORS, OR
from stages.score.answers.negation import SCRIPT, denies_in_script
from stages.score.answers.normalize import spaced
from stages.score.answers.number_words import last_in_han, last_in_words, scale_of
from stages.score.answers.numerals import NUMBER, Value, as_value, simple, value_of
from stages.score.answers.reading import Reading

_ENUMERATED = re.compile(r"^[ \t]*(?:\(?\d{1,3}[.)][ \t]+(?=\S)|[-*•–][ \t]+)", re.MULTILINE)
_SHORT = 40
_NONE = re.compile(r"\s*(?:there (?:are|is|were|was) )?none(?: of (?:them|these|those))?[\s.!]*", re.IGNORECASE)
_CONDITION = re.compile(r"\d\D*\b(?:for|when|if|where|with|at|since|because|as|given)\b[^=]*=")
_BOUND = re.compile(
    r"(?:[<>≤≥≠]=?|!=|\b(?:at least|at most|less than|more than|fewer than|greater than|smaller than|larger than|under"
    r"|over|above|below|up to|between|from|no more than|no less than|minimum of|maximum of))\s*[$€£]?\s*$"
    r"|(?:大于|小于|至少|至多|超过|不到|不超过)\s*$",
    re.IGNORECASE,
)
_BOUND_AFTER = re.compile(
    r"\s*[^\W\d_]*\s*(?:\b(?:at (?:most|least)|or (?:more|less|fewer|above|below|higher|lower))\b"
    r"|以上|以下|以内|이상|이하)",
    re.IGNORECASE,
)
# Behind a number: something that makes it a part of a larger expression, or one of several.
_GOES_ON = re.compile(
    r"\s*(?:[+*/^×·÷⋅]|-(?=\s*[\d(\\])|\\(?:times|cdot|div|pm|sqrt|pi|frac)(?![a-zA-Z])|[√π]|\(?[xyzntk](?![A-Za-z']))"
)
_MORE = re.compile(
    rf"\s*[^\W\d_]*\s*(?:(?:\b(?:{OR}|to|till|through|{AND})\b|[-–—~/]|或者?|和|または|또는|到|至)\s*[-+]?[$€£]?\s*\d|,\s+[-+]?[$€£]?\d[\d.,]*\s*(?:$|,|\.|{OR}|{AND}))"
)
_PART_OF = re.compile(
    r"(?:(?:(?<![A-Za-z])[A-Za-z]|[\d)\]}])\s*[-+*/^×·]|[+*/^_√×·]"
    r"|\\?sqrt\s*[\[{(]*|\\(?:sqrt|frac|pi|cdot|times)\s*\{?|\\?log\s*\(?|_\{|\}\s*\{)\s*[({]*\s*$"
)
# `3 out of 5`, `3 of the 5`: the first is how many there are.
_OUT_OF = re.compile(r"\s*(?:out\s+of|of)\s+(?:the\s+|all\s+|these\s+|those\s+)?", re.IGNORECASE)
# A note behind a number and its unit explains it, unless it sums up: `150 km/h (as on page 2)`, not `3 (total 15)`.
_NOTED = re.compile(
    r"(\d[^\s()]*(?:\s+[^\W\d_][^\s()]*){0,2})\s*\((?![^()]*(?:=|\b(?:total|altogether|in all|sum|or|i\.e|that is)\b))"
    r"[^()]*(?:[^\W\d_]{2}|\d\s*[-+*/×]\s*\d)[^()]*\)[\s.]*$",
    re.IGNORECASE,
)
_DENIED_TAIL = re.compile(
    r"(?:^|[\s\"'(])([\w']+)(?:\s+(?:a|an|the|be|exactly|equal to|really|simply|just))*\s*[:$]?\s*$"
)


def gsm8k_final(text: str) -> str | None:
    """GSM8K's own extraction: what follows the last `####` or `A:`, without commas and final dot; or None."""
    marks = re.findall(r"####[ \t]*(.+)|^[ \t]*A:[ \t]*(.+)", text, re.MULTILINE)
    return (marks[-1][0] or marks[-1][1]).replace(",", "").strip().rstrip(".") if marks else None


def abstains(text: str) -> bool:
    """Whether a text says that the answer can't be had."""
    return bool(ABSTAINS.search(text))


def final_value(reading: Reading) -> Value | None:
    """The number that a completion settles on, or None: it has none, names several, bounds it, or withholds it."""
    if not reading.mark:
        return _last(reading.whole)
    for part in (reading.final, *reading.earlier):
        if _NONE.fullmatch(part):
            return Value(Fraction(0), False, part, None)
        if (whole := as_value(part)) is not None:
            return whole
        text = simple(part)
        if abstains(text):
            return None
        if NUMBER.search(text):
            return _first(text)
        if (word := in_words(text)) is not None:
            return word
    # A statement without any number (`the answer is clear`) leaves it to the text; a box without one is an answer.
    return _last(reading.whole) if reading.mark == "statement" else None


def _first(text: str) -> Value | None:
    """The first number of a marked answer that is not denied."""
    if "=" in text:
        # `x = 5`, `16 - 3 = 13`: what the last sign of the first sentence gives.
        text = _after_equals(text)
    for found in NUMBER.finditer(text):
        before, after = text[: found.start()], text[found.end() :]
        if _denied(before, after):
            continue
        if _BOUND.search(before) or _BOUND_AFTER.match(after) or _PART_OF.search(before):
            return None
        if _GOES_ON.match(after) or _MORE.match(after):
            return None
        return _scaled(found.group(), after)
    return None


def _scaled(written: str, after: str) -> Value | None:
    value = value_of(written)
    return value and value._replace(scale=scale_of(after))


def _after_equals(text: str) -> str:
    sentence = re.split(r"[;。]|\.\s|,\s", text, maxsplit=1)[0]
    # `5 for n = 2` states the 5.
    return text if "=" not in sentence or _CONDITION.search(sentence) else text[sentence.rfind("=") + 1 :]


def _denied(before: str, after: str = "") -> bool:
    tail = _DENIED_TAIL.search(before[-60:])
    return bool((tail and tail.group(1).lower() in NEGATORS) or denies_in_script(before[-8:], after))


def _last(text: str) -> Value | None:
    """The last number of a text that marks no answer; number words up to a hundred where there are no digits."""
    if _NONE.fullmatch(text):
        return Value(Fraction(0), False, text, None)
    if len(text) < _SHORT and (whole := as_value(text)) is not None:
        return whole
    if abstains(text):
        return None
    # On a single line a dash in front is a sign, below another line it is a bullet; `1.` before a text counts a list.
    text = _ENUMERATED.sub("", text) if "\n" in text else text
    text = _NOTED.sub(r"\1", simple(text))
    found = _counting(text)
    if not found and (word := in_words(text)):
        return word
    found = found or _only(text)
    for n in reversed(range(len(found))):
        before, after = text[: found[n].start()], text[found[n].end() :]
        if _denied(before, after):
            continue
        if n and _OUT_OF.fullmatch(text[found[n - 1].end() : found[n].start()]):
            continue
        if _PART_OF.search(before[-12:]) and not re.search(r"\d\s*[-+*/×·]\s*$", before):
            return None
        if _BOUND.search(before[-40:]) or _BOUND_AFTER.match(after):
            return None
        if n and _either(text, found, n):
            return None
        return _scaled(found[n].group(), after)
    return None


def _counting(text: str) -> list[re.Match[str]]:
    """A text's numbers without those that only say which one is meant."""
    return [m for m in NUMBER.finditer(text) if not LABELS.search(text[max(0, m.start() - 20) : m.start()])]


def _only(text: str) -> list[re.Match[str]]:
    """A text's number where there is no other: `on page 12` may be what was asked."""
    found = list(NUMBER.finditer(text))
    return found if len(found) == 1 else []


def _either(text: str, found: list[re.Match[str]], n: int) -> bool:
    """Whether the last two numbers are offered as alternatives."""
    between = text[found[n - 1].end() : found[n].start()]
    return bool(re.fullmatch(rf"\s*(?:{OR})\s*|[–—~～]", between))


def in_words(text: str) -> Value | None:
    """The last number in words that a text settles on, or None."""
    found = last_in_words(spaced(text).split())
    if found is None and SCRIPT.search(text):
        found = last_in_han(text)
    return Value(found[0], False, found[1], None) if found else None


def equal(expected: Value, found: Value, tolerance: tuple[str, Fraction] | None = None) -> bool:
    """Equal exactly, within the row's tolerance, as a percentage beside its decimal, or rounded to two places or more.

    From two decimals on a reference is taken for rounded. One decimal is no rounding: 2.5 beside 2.46 is
    another answer.
    """
    pairs = [(expected.number, found.number)]
    # `How many million?` and `How many?` are both answered by `2.5 million`.
    if expected.scale != found.scale:
        pairs.append((expected.number * expected.scale, found.number * found.scale))
    if expected.percent != found.percent:  # `35 %` is 35 to some and 0.35 to others
        pairs.append(
            (expected.number / 100, found.number) if expected.percent else (expected.number, found.number / 100)
        )
    if any(a == b or (tolerance and _within(a, b, tolerance)) for a, b in pairs):
        return True
    return (
        expected.places is not None
        and expected.places >= 2
        and expected.percent == found.percent
        and round(found.number, expected.places) == expected.number
    )


def _within(expected: Fraction, found: Fraction, tolerance: tuple[str, Fraction]) -> bool:
    kind, size = tolerance
    return abs(expected - found) <= (size * abs(expected) if kind == "relative" else size)
