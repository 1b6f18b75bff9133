r"""Answers that need no algebra to compare: exact numbers with fractions, roots and pi, and lists of them.

`\frac{6}{4}`, `-2\sqrt{8}`, `\frac{3\pi}{4}`, `(3, \tfrac12)`, `\{1, 2\}`, `\text{even}`. What is read here is
exact, so two answers of one kind are equal or they are not, in microseconds; what is not read goes to the computer
algebra system, which takes ten milliseconds and a child process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from stages.score.answers.numerals import as_number

# What sets type and changes no value: thin spaces, degree signs, `\left`. The look-ahead spares `\bigcup` and its like.
_NO_MEANING = re.compile(r"\\[,;:! $]|\^\{?\\circ\}?|\\(?:left|right|displaystyle|big|Big)(?![a-zA-Z])|\$|~|\s+")
_TOKEN = re.compile(r"\d+(?:\.\d+)?|\.\d+|\\[a-z]+|[-+*/(){}]")
# `\text{even}`, or a bare word of three letters or more: `xy` is more likely a product.
_TEXT = re.compile(r"\\(?:text|mbox|textbf|mathrm|textrm)\{\s*([A-Za-z][A-Za-z ,.'-]*?)\s*\}|([A-Za-z]{3,})")
_LONGEST = 120
_MOST = 10**6
"""Roots of larger numbers are left to algebra: taking squares out of them by trial would take long."""


@dataclass(frozen=True, slots=True)
class Number:
    """rational * sqrt(root) * pi^pi, exactly; `root` has no square factor."""

    rational: Fraction
    root: int = 1
    pi: int = 0

    def times(self, other: Number) -> Number:
        """The exact product; `_Unread` where its root is too large to take squares out of."""
        square = _squares_out(self.root * other.root)
        return _normal(self.rational * other.rational * square.rational, square.root, self.pi + other.pi)

    def over(self, other: Number) -> Number:
        """The quotient; ZeroDivisionError where there is none."""
        return self.times(_normal(1 / (other.rational * other.root), other.root, -other.pi))


@dataclass(frozen=True, slots=True)
class Form:
    """An answer as it is compared."""

    kind: str
    """number, text, or the brackets of a list: `()`, `[)`, `{}`."""
    value: object
    loose: bool = False
    """Unequal proves nothing: a decimal may be rounded, and bare letters may be a product of variables."""


class _Unread(Exception):
    """Not in the small language of this module."""


def _normal(rational: Fraction, root: int, pi: int) -> Number:
    return Number(rational, root, pi) if rational else Number(Fraction(0))


def _squares_out(n: int) -> Number:
    if not 0 <= n <= _MOST:
        raise _Unread
    outside, factor = 1, 2
    while factor * factor <= n:
        while n and n % (factor * factor) == 0:
            n //= factor * factor
            outside *= factor
        factor += 1
    return Number(Fraction(outside if n else 0), n or 1)


class _Reader:
    r"""product := factor (('*' | '/' | nothing) factor)*, with \frac, \sqrt, \pi and brackets as factors."""

    def __init__(self, text: str) -> None:
        self.tokens = _TOKEN.findall(text)
        # Whatever is no token drops out of `findall`, so a difference means a sign that this language does not have.
        if "".join(self.tokens) != text:
            raise _Unread
        self.at = 0

    def whole(self) -> Number:
        found = self.signed()
        if self.at != len(self.tokens):
            raise _Unread
        return found

    def signed(self) -> Number:
        sign = 1
        while self.peek() in ("-", "+"):
            sign = -sign if self.take() == "-" else sign
        return self.product().times(Number(Fraction(sign)))

    def product(self) -> Number:
        found, digits = self.factor(), self.tokens[self.at - 1][-1].isdigit()
        divided = False
        while (token := self.peek()) and token not in (")", "}"):
            if token in ("*", "\\cdot", "\\times"):
                self.take()
                found = found.times(self.factor())
            elif token == "/":
                self.take()
                found, divided = found.over(self.factor()), True
            elif (
                divided
                or token[0] in "-+"
                or ((token[0].isdigit() or token in ("\\frac", "\\dfrac", "\\tfrac")) and digits)
            ):
                # Not a product: a sum, a mixed number (`2\frac12` may be two and a half), or `1/2\pi`, which may be
                # either of two things.
                raise _Unread
            else:
                found = found.times(self.factor())
            digits = False
        return found

    def factor(self) -> Number:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            return Number(Fraction(token))
        if token in ("\\frac", "\\dfrac", "\\tfrac"):
            above = self.argument()
            return above.over(self.argument())
        if token == "\\sqrt":
            inside = self.argument()
            if inside.root != 1 or inside.pi or inside.rational < 0:
                raise _Unread
            # sqrt(p / q) = sqrt(p q) / q: the root of a fraction is that of a whole number.
            r = inside.rational
            return _squares_out(r.numerator * r.denominator).times(Number(Fraction(1, r.denominator)))
        if token == "\\pi":
            return Number(Fraction(1), 1, 1)
        if token in ("(", "{"):
            found = self.signed()
            if self.take() != {"(": ")", "{": "}"}[token]:
                raise _Unread
            return found
        raise _Unread

    def argument(self) -> Number:
        token = self.peek()
        if token and token.isdigit():
            # \frac12 is one half; the rest of the digits is the next argument.
            self.tokens[self.at : self.at + 1] = list(token)
        return self.factor()

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        if not (token := self.peek()):
            raise _Unread
        self.at += 1
        return token


@lru_cache(maxsize=8192)
def read(latex: str) -> Form | None:
    """An answer's exact form, or None for anything that needs algebra."""
    if len(latex) > _LONGEST:
        return None
    # Words first: algebra would read `even` as a product of variables.
    if words := _TEXT.fullmatch(latex.strip().strip("$").strip()):
        marked, bare = words.groups()
        return Form("text", " ".join((marked or bare).lower().split()).rstrip("."), marked is None)
    text = _NO_MEANING.sub("", latex).rstrip(".").replace("\\{", "{").replace("\\}", "}")
    # `50\%` is one half to some and fifty to others; math-verify takes both, so it decides.
    if "%" not in text and (plain := as_number(text)) is not None:
        return Form("number", Number(plain), "." in text)
    try:
        return _list(latex, text) or Form("number", _Reader(text).whole(), "." in text)
    except (_Unread, ZeroDivisionError):
        return None


def _list(latex: str, text: str) -> Form | None:
    """`(a, b)`, `[a, b)` or `\\{a, b\\}` of exact numbers; None for what is no list."""
    if "," not in text:
        return None
    braces = "\\{" in latex
    if len(text) < 3 or text[0] not in ("{" if braces else "([") or text[-1] not in ("}" if braces else ")]"):
        # A comma without brackets may be a list, a set or a thousands separator.
        raise _Unread
    inner = text[1:-1]
    if re.search(r"(?<!\d)\d{1,3}(?:,\d{3})+(?!\d)", inner) and "," in inner and " " not in latex:
        raise _Unread  # `(1,234)` may be a number in brackets
    items = [_Reader(item).whole() for item in inner.split(",")]
    return Form(text[0] + text[-1], frozenset(items) if braces else tuple(items), "." in text)


def same(gold: str, candidate: str) -> bool | None:
    """Whether two answers are equal; None where this module can't tell: unread, of two kinds, or rounded."""
    expected, found = read(gold), read(candidate)
    if expected is None or found is None:
        return None
    if (expected.kind, expected.value) == (found.kind, found.value):
        return True
    # A bare word beside a reference in \\text{...} is a word.
    loose = expected.loose or (found.loose and found.kind != "text")
    return None if loose or expected.kind != found.kind else False
