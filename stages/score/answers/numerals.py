r"""How a number is written: digits with thousands, decimals, fractions, powers and percent, in text and in LaTeX."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from stages.score.answers.normalize import plain
from stages.score.answers.number_words import MINUS, scale_of
from stages.score.answers.reading import plain_markup

_MAX_DIGITS = 400
"""Longer digit strings are a model running on, not a number."""
# A sign, a currency, digits with thousands by commas, points, or thin spaces (a full one only between groups of three).
NUMBER = re.compile(
    r"""(?<![A-Za-z_\d.,])(?:
        (?:(?<![\w.)\]}%])[-+](?![ ])|(?<![\w.)\]}%])(?<!\w[ ])[-+][ ])?(?:[$€£¥₹][ ]?)?-?
        (?:\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}(?![.\d])     # 1.234,5  1.234.567
          |\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)(?:\.\d+)?                 # 1,234.5  12,34,567
          |\d{1,3}(?:[\u00a0\u2009\u202f']\d{3})+(?!\d)(?:[.,]\d+)?     # 1 234
          |\d+,\d+(?![,\d])                                             # 0,5
          |\d+(?:\.\d+)?)
        (?:[eE][-+]?\d+(?![\w.]))?
        (?:[ ]\d+/\d+(?![\d./])|/\d+(?:\.\d+)?(?![\d/]))?
        |(?<!\d)[-+]?[ ]?\.\d+(?:[eE][-+]?\d+)?
    )(?:[ ]?\\?%)?""",
    re.VERBOSE,
)
_THIN = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_LATEX = (
    (re.compile(r"(?<=\d)\{,\}(?=\d)|(?<=\d),\\!(?=\d)"), ","),
    (re.compile(r"(?<=\d)(?:\\[,;: ]|~)(?=\d{3}(?!\d))"), ""),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"\s*(?:\\times|\\cdot|[×x*·⋅])\s*10\s*(?:\^|\*\*)\s*[{(]?\s*([-+]?\d+)\s*[})]?"), r"e\1"),
    (re.compile(r"(?<=\d)\s*\\[dtc]?frac\s*(\d)\s*(\d)(?!\d)"), r" \1/\2"),
    (re.compile(r"(?<=\d)\s*\\[dtc]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}"), r" \1/\2"),
    (re.compile(r"\\[dtc]?frac\s*\{\s*(-?[\d.]+)\s*\}\s*\{\s*([\d.]+)\s*\}"), r"\1/\2"),
    (re.compile(r"\\[dtc]?frac\s*(\d)\s*(\d)"), r"\1/\2"),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|°"), " degrees"),
    (re.compile(r"\\(?:approx|sim|simeq|displaystyle|left|right)(?![a-zA-Z])|[≈~]"), " "),
    # The exponent of a unit: `m^2`, `cm^{3}`, `s^{-1}`.
    (re.compile(r"(?<=[A-Za-z])\s*\^\s*\{?\s*-?\d+\s*\}?"), ""),
    (re.compile(r"\\(?:le|leq|leqslant|ge|geq|geqslant|lt|gt)(?![a-zA-Z])"), "<"),
)


class Value(NamedTuple):
    """A number as it was read."""

    number: Fraction
    percent: bool
    written: str
    places: int | None
    """Decimals that it is written with; None for whole numbers, fractions and powers."""
    scale: int = 1
    """What a word behind it multiplies it with, as in `2.5 million`; meant or a unit, as the reference has it."""


def simple(text: str) -> str:
    """A text whose numbers are written in one way: LaTeX, superscripts, units' exponents and markup off."""
    if not text.isascii():
        text = plain(_THIN.sub("", text))
    text = MINUS.sub("-", text)
    if (
        "\\" in text
        or "^" in text
        or "{" in text
        or "*" in text
        or "~" in text
        or not text.isascii()
        or "x" in text
        or "$" in text
    ):
        for pattern, new in _LATEX:
            text = pattern.sub(new, text)
        text = plain_markup(text)
    return text


def value_of(written: str) -> Value | None:
    """A number as `NUMBER` finds it; None for `3/0` and for more digits than any answer has."""
    if len(written) > _MAX_DIGITS:
        return None
    bare = written.strip()
    percent = bare.endswith("%")
    bare = bare.rstrip("%\\ ").translate(_NO_SIGNS).strip()
    sign = -1 if "-" in bare[:2] else 1
    bare = bare.lstrip("+- ")
    whole, _, part = bare.rpartition(" ")  # a mixed number: `3 1/2`
    try:
        number = sign * _fraction(part) if not whole else sign * (Fraction(_digits(whole)) + _fraction(part))
    # ZeroDivisionError for `3/0`, which a policy writes sooner or later.
    except (ValueError, ZeroDivisionError):
        return None
    digits = _digits(part)
    places = len(digits.partition(".")[2]) if "." in digits and not {"/", "e", "E"} & {*digits} else None
    return Value(number, percent, written.strip(), places)


_NO_SIGNS = str.maketrans("", "", "$€£¥₹'\u00a0\u2009\u202f")


def _fraction(text: str) -> Fraction:
    above, slash, below = _digits(text).partition("/")
    return Fraction(above) / Fraction(below) if slash else Fraction(int(above)) if above.isdigit() else _power(above)


def _power(text: str) -> Fraction:
    _, _, exponent = text.lower().partition("e")
    # A fraction with a million digits would be made in full.
    if exponent and abs(int(exponent)) > _MAX_DIGITS:
        raise ValueError(text)
    return Fraction(text)


def _digits(text: str) -> str:
    """A number as Python writes it: thousands off, a decimal comma as a point."""
    if "," not in text and text.count(".") < 2:
        return text
    comma, point = text.rfind(","), text.rfind(".")
    if point >= 0 and comma > point:  # 1.234,5
        return text.replace(".", "").replace(",", ".")
    if comma < 0:  # 1.234.567
        return text.replace(".", "")
    groups = text.partition(".")[0].split(",")
    if point < 0 and len(groups) == 2 and (len(groups[1].partition("/")[0]) != 3 or groups[0] in ("0", "")):  # 0,5
        return text.replace(",", ".")
    return text.replace(",", "")


@lru_cache(maxsize=4096)
def as_value(text: str) -> Value | None:
    """The whole text as one number (`1,234.5`, `$3`, `3/4`, `50 %`, `10^5`, `1e-05`, `90^\\circ`), or None."""
    bare = text.strip()
    # Most numbers are plain digits, and most texts hold none.
    if len(bare) < _MAX_DIGITS and bare.isascii() and bare.isdigit():
        return Value(Fraction(int(bare)), False, bare, None)
    if not any(c.isdigit() for c in bare):
        return None
    bare = simple(bare).strip().removesuffix(" degrees").removesuffix(".").strip()
    if bare[:1] == "$":
        bare = bare[1:].strip()
    if power := re.fullmatch(r"(-?\d+)\s*(?:\^|\*\*)\s*\{?\s*(-?\d{1,3})\s*\}?", bare):
        base, exponent = int(power[1]), int(power[2])
        if base and len(power[1]) < 6:
            return Value(Fraction(base) ** exponent, False, text.strip(), None)
    if found := NUMBER.fullmatch(bare) or re.fullmatch(r"-?\d{1,3}(?: \d{3})+(?:[.,]\d+)?", bare):
        value = value_of(found.group() if found.re is NUMBER else found.group().replace(" ", ""))
        return value._replace(written=text.strip()) if value else None
    return None


def with_unit(text: str) -> Value | None:
    """The number of a reference with a unit behind it (`24 cm`, `5 m/s`), or None for anything else."""
    bare = simple(text.strip()).strip()
    found = NUMBER.match(bare)
    if found is None or not re.fullmatch(r"[^\W\d_]+[\w ./^-]*", bare[found.end() :].strip()):
        return None
    value = value_of(found.group())
    return value and value._replace(scale=scale_of(bare[found.end() :]))


def as_number(text: str) -> Fraction | None:
    """The whole text as one exact number, or None when it is anything else."""
    value = as_value(text)
    return value.number if value else None
