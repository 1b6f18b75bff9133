r"""Answers that are mathematics: put into one spelling, compared exactly where that is enough, else by algebra.

From cheap to dear: the same letters, exact numbers, exact forms (`exact_math`) in microseconds; math-verify in a child
process in milliseconds. What math-verify drops from an expression (`\pmod{7}`, the base of `101_2`, `\forall`, the
order of the points in `\angle ABC`, an ellipsis) is compared here.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from stages.score.answers import exact_math, numbers, numerals
from stages.score.answers.algebra import math_pool
from stages.score.answers.reading import Reading

_NO_MEANING = re.compile(r"\s+|\\[,;! ]|\\(?:left|right|displaystyle)(?![a-zA-Z])|\$|\^\{?\\circ\}?")
_LONGEST = 4000
_SPELLED = """
π pi|∞ infty|≤ le|≥ ge|≠ ne|× times|· cdot|⋅ cdot|∪ cup|∩ cap|∈ in|± pm|∠ angle|△ triangle|≡ equiv|∀ forall|∃ exists
|… ldots|⋯ cdots|θ theta|α alpha|β beta|γ gamma|λ lambda|φ phi|ω omega|∅ emptyset|⊥ perp|∥ parallel|° ^\\circ
"""
_SIGNS = str.maketrans(
    {"÷": "/", "−": "-", "–": "-", "½": "\\frac{1}{2}", "⅓": "\\frac{1}{3}", "⅔": "\\frac{2}{3}", "¼": "\\frac{1}{4}",
     "¾": "\\frac{3}{4}"}
    | {entry[0]: f"\\{entry[2:]} ".replace("\\^", "^") for entry in _SPELLED.replace("\n", "").split("|")}
)  # fmt: skip
_RAISED = re.compile("[⁰¹²³⁴-⁹⁺⁻ⁿ]+")
_LOWERED = re.compile("[₀-₉]+")
_RAISED_TO = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_LOWERED_TO = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_ROOT = re.compile(r"(?:√|(?<![\\A-Za-z])sqrt)\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+(?:\.\d+)?|[A-Za-z]|\\pi))")
_CUBE_ROOT = re.compile(r"∛\s*(?:\(([^()]*)\)|(\d+|[A-Za-z]))")
# Upright letters are constants and variables like others: `\mathrm{e}`, `{\rm i}`.
_UPRIGHT = re.compile(
    r"\\(?:mathrm|mathit|mathnormal|operatorname|text|textit|rm)\s*\{\s*([a-zA-Z])\s*\}|\{\s*\\rm\s+([a-zA-Z])\s*\}"
)
_NAMES = re.compile(r"(?<![\\A-Za-z])(pi|sin|cos|tan|cot|sec|csc|ln|log|exp|infty)(?![A-Za-z])")
# Of degrees alone math-verify drops the sign, and takes the number for radians.
_CIRC = r"\s*\^\s*(?:\\circ|\{\s*\\circ\s*\})\s*"
_NUMBER = r"\s*(\d+(?:\.\d+)?)"
_OF_DEGREES = re.compile(
    rf"(\\(?:sin|cos|tan|cot|sec|csc)\s*(?:\^\s*(?:\{{\s*-?\d+\s*\}}|\d))?)\s*(?:\\left)?"
    rf"(?:\({_NUMBER}{_CIRC}(?:\\right)?\)|\{{{_NUMBER}{_CIRC}\}}|{_NUMBER}{_CIRC})"
)
_OR = re.compile(r"\s*(?:,|;|\\?(?:text|quad)?\{?\s*\b(?:or|and)\b\s*\}?|或|和)\s*", re.IGNORECASE)
_ASSIGNED = re.compile(r"\s*\\?[a-zA-Z](?:_\{?\w+\}?)?\s*=\s*(.+)", re.DOTALL)
_THEN = re.compile(
    r"[,;\n⇒→∴⟹$]|\\(?:Rightarrow|Longrightarrow|implies|therefore|to|quad|[\[\]()])(?![a-zA-Z])"
    r"|\b(?:so|thus|hence|then|therefore|gives|which|that|is|means)\b|所以|因此|得",
    re.IGNORECASE,
)
_ALONE = re.compile(r"\\?[a-zA-Z](?:_\{?\w+\}?)?")
# What algebra drops, but says what it is about.
_SAYS = re.compile(
    r"\\(?:equiv|[pb]?mod|forall|exists|angle|measuredangle|triangle|overline|overrightarrow|overleftrightarrow|widehat|perp"
    r"|parallel|sim|cong|odot|nmid|mid|implies|iff|Rightarrow|Leftrightarrow|neg|land|lor)(?![a-zA-Z])"
)
_POINTS = (
    "\\angle",
    "\\measuredangle",
    "\\triangle",
    "\\overline",
    "\\overrightarrow",
    "\\overleftrightarrow",
    "\\widehat",
)
_BASE_WORDS = "two|three|four|five|six|seven|eight|nine|ten"
_IN_BASE = re.compile(rf"([0-9A-Fa-f]+)_\{{?(?:\\text\{{)?\s*(\d+|{_BASE_WORDS})\s*\}}?\}}?")
_BASES = {w: n for n, w in enumerate(_BASE_WORDS.split("|"), start=2)}
_IN_TEXT = re.compile(r"\\(?:text|mbox|textbf|mathrm|textrm)\s*\{\s*([A-Za-z]{2,}(?:[ '-][A-Za-z]+)*)\s*\}")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{[A-Za-z]+\*?\}(?:\{[clr|]+\})?")
_DOTS = re.compile(r"\\(?:ldots|cdots|dots[cbi]?)(?![a-zA-Z])|\.{3}")
Tolerance = tuple[str, Fraction] | None
Verdict = tuple[bool | None, str | None, str | None]


@lru_cache(maxsize=4096)
def latex(text: str) -> str:
    r"""An expression as LaTeX has it: Unicode signs, `sqrt(3)`, `x**2`, `2*x` and `\mathrm{e}` in one spelling."""
    if not text.isascii():
        text = _RAISED.sub(lambda m: "^{" + m.group().translate(_RAISED_TO) + "}", text)
        text = _LOWERED.sub(lambda m: "_{" + m.group().translate(_LOWERED_TO) + "}", text)
        if "∛" in text:
            text = _CUBE_ROOT.sub(lambda m: "\\sqrt[3]{" + (m[1] or m[2]) + "}", text)
    if "√" in text or "sqrt" in text:
        for _ in range(2):  # a root in a root
            text = _ROOT.sub(lambda m: "\\sqrt{" + (m[1] or m[2] or m[3]) + "}", text)
    if not text.isascii():
        text = text.translate(_SIGNS)
    if "*" in text:
        text = re.sub(r"\*\*\s*\(([^()]*)\)", r"^{\1}", text)
        text = re.sub(r"\*\*\s*(-?\w+)", r"^{\1}", text).replace("*", " \\cdot ")
    if "rm" in text or "text" in text or "math" in text or "operatorname" in text:
        text = _UPRIGHT.sub(lambda m: m[1] or m[2], text)
    if "\\" not in text or any(name in text for name in ("sin", "cos", "tan", "log", "ln", "pi")):
        text = _NAMES.sub(r"\\\1 ", text)
    if "circ" in text:
        text = _OF_DEGREES.sub(lambda m: rf"{m[1]}\left(\frac{{{m[2] or m[3] or m[4]}\pi}}{{180}}\right)", text)
    return text.strip()


@lru_cache(maxsize=4096)
def spelled(expression: str) -> str:
    """An expression without what sets type and changes no value."""
    text = _NO_MEANING.sub("", expression.rstrip("."))
    return text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cdot", "\\times")


def compare(gold: str, reading: Reading, tolerance: Tolerance = None) -> Verdict:
    """Whether the completion's expression is the reference; what was compared; why it is not."""
    found = reading.final
    right, seen = _equal(latex(gold), latex(found), reading, tolerance)
    # A list may be written out: `x = 1 or x = -2`.
    if not right and (listed := _listed(found)) and "," in gold:
        again, _ = _equal(latex(gold), latex(listed), reading, tolerance)
        right = again or right
    # What is derived is the last thing said: `2x = 6, so x = 3`.
    if right is not True and (last := _derived(found)):
        again, _ = _equal(latex(gold), latex(last), reading, tolerance)
        right = again or right
    if right is not True and reading.noted != reading.final:
        again, _ = _equal(latex(gold), latex(reading.noted), reading, tolerance)
        right = again or right
    if seen is None:
        return False, None, "no mathematical expression in the answer"
    return right, seen, None if right else f"{seen} is not {gold}"


def _equal(gold: str, found: str, reading: Reading, tolerance: Tolerance) -> tuple[bool | None, str | None]:
    seen = found[:200]
    if spelled(found) == spelled(gold):
        return True, seen
    a, b = numerals.as_value(gold), numerals.as_value(found)
    if a is not None and b is None and found.isascii() and found.replace(" ", "").replace("-", "").isalpha():
        b = numbers.in_words(found)
    if a is not None and b is not None:
        return numbers.equal(a, b, tolerance), seen
    if (same := exact_math.same(gold, found)) is not None:
        return same, seen
    if not any(c.isalnum() for c in found):
        return False, None
    if (reading.mark or len(found) < 100) and (said := _by_what_is_said(gold, found)) is not None:
        return said[0], seen
    # A marked answer is handed over alone; without a mark math-verify searches, and an answer stands at the end.
    alone = (reading.mark and "\n" not in found) or (len(found) < 80 and _bare_expression(found))
    return by_algebra(gold, f"\\boxed{{{found}}}" if alone else reading.whole[-_LONGEST:])


def in_text(gold: str) -> str | None:
    r"""The words of a reference that is nothing but words: `\text{no solution}`; None for any other."""
    found = _IN_TEXT.fullmatch(gold.strip().strip("$"))
    return found[1] if found else None


def _bare_expression(text: str) -> bool:
    """Whether a text is an expression and no sentence with one in it."""
    text = _ENVIRONMENT.sub("", text)
    return "$" not in text and "\\(" not in text and not re.search(r"(?<![\\A-Za-z])[A-Za-z]{3,}", text)


def _derived(text: str) -> str | None:
    """The last of several equations that says what a letter is, where the others lead to it; None for anything else.

    `x = 1, x = 2` are two answers, and `y = 1, x = 2` an answer in two letters: no other one says what a letter is.
    """
    parts = [part for part in map(str.strip, _THEN.split(text.strip(" ."))) if part]
    if len(parts) < 2 or len(text) > 200 or any(part.count("=") == 0 for part in parts):
        return None
    *before, name = (part.partition("=")[0].strip() for part in parts)
    if not _ALONE.fullmatch(name) or any(_ALONE.fullmatch(left) for left in before):
        return None
    return parts[-1] if all(name in part for part in parts[:-1]) else None


def _listed(text: str) -> str | None:
    """`x = 1 or x = -2` as `1, -2`; None for what is no such list."""
    parts = [part for part in _OR.split(text.strip(" .")) if part]
    if len(parts) < 2 or len(text) > 200:
        return None
    values = [m.group(1) if (m := _ASSIGNED.fullmatch(part)) else part for part in parts]
    return ", ".join(values) if values != parts or not re.search(r"[A-Za-z]{3}", text) else None


# --- what algebra drops -----------------------------------------------------------------------------------------------


def _by_what_is_said(gold: str, found: str) -> tuple[bool | None] | None:
    """A verdict where a symbol that algebra drops is in either; None where there is none."""
    if (based := _in_bases(gold, found)) is not None:
        return (based,)
    if _DOTS.search(gold) or _DOTS.search(found):
        return (_with_dots(gold, found),)
    symbols = _SAYS.findall(gold), _SAYS.findall(found)
    if not any(symbols):
        return None
    if [s.replace("pmod", "mod").replace("bmod", "mod") for s in symbols[0]] != [
        s.replace("pmod", "mod").replace("bmod", "mod") for s in symbols[1]
    ]:
        return (False,)
    mine, theirs = _SAYS.split(gold), _SAYS.split(found)
    named = [None, *symbols[0]]
    return (all(_part(a, b, symbol) for a, b, symbol in zip(mine, theirs, named, strict=True)),)


def _part(gold: str, found: str, symbol: str | None) -> bool:
    """Whether what stands between two symbols is the same; points in their order, or the other way round."""
    a, b = spelled(gold).strip("{}(),. "), spelled(found).strip("{}(),. ")
    if a == b:
        return True
    if not a or not b:
        return False
    if symbol in _POINTS:
        points = re.match(r"[A-Z]+", a), re.match(r"[A-Z]+", b)
        if points[0] and points[1] and points[0].group() != points[1].group():
            if points[0].group() != points[1].group()[::-1]:
                return False
            a, b = a[points[0].end() :].strip("{}=,. "), b[points[1].end() :].strip("{}=,. ")
            return a == b or bool(a and b and by_algebra(a, f"\\boxed{{{b}}}")[0])
    return bool(by_algebra(a, f"\\boxed{{{b}}}")[0])


def _in_bases(gold: str, found: str) -> bool | None:
    """Digits in a base: `101_2` is neither `101_3` nor `101` in another base; None where no base is given."""
    a, b = _IN_BASE.fullmatch(spelled(gold)), _IN_BASE.fullmatch(spelled(found))
    if a is None or b is None:
        return None
    bases = [_BASES.get(m[2]) or int(m[2]) for m in (a, b)]
    return bases[0] == bases[1] and a[1].lstrip("0").lower() == b[1].lstrip("0").lower()


def _with_dots(gold: str, found: str) -> bool | None:
    """Sequences with an ellipsis: item by item; undecided where they end alike and show different numbers of items."""
    mine = [item for item in _DOTS.sub("...", spelled(gold)).strip("{}()[]\\").split(",") if item]
    theirs = [item for item in _DOTS.sub("...", spelled(found)).strip("{}()[]\\").split(",") if item]
    if len(mine) == len(theirs):
        return all(_item(a, b) for a, b in zip(mine, theirs, strict=True))
    ends_alike = bool(mine and theirs) and _item(mine[0], theirs[0]) and _item(mine[-1], theirs[-1])
    return None if ends_alike else False


def _item(gold: str, found: str) -> bool:
    if gold == found or "..." in (gold, found):
        return gold == found
    return bool(by_algebra(gold, f"\\boxed{{{found}}}")[0])


# --- algebra ----------------------------------------------------------------------------------------------------------


def by_algebra(gold: str, candidate: str) -> tuple[bool, str | None]:
    """math-verify's verdict in a child process, and what it read; remembered. Raises TimedOut or JobFailed."""
    outcome = _remembered(gold, candidate, math_pool.limit_s())
    if isinstance(outcome, Exception):
        # A new exception each time: the kept one would gather the tracebacks of all threads that raise it.
        raise type(outcome)(*outcome.args)
    return outcome


@lru_cache(maxsize=4096)
def _remembered(gold: str, candidate: str, limit_s: float) -> tuple[bool, str | None] | Exception:
    # A group's samples often end in the same words; failures are remembered too, so that eight equal completions
    # that hang cost one timeout.
    try:
        answer = math_pool.POOL.run({"gold": gold, "candidate": candidate}, limit_s)
    except (math_pool.TimedOut, math_pool.JobFailed) as error:
        return error
    return answer["correct"], answer["seen"]


def forget() -> None:
    """Drop what was remembered of comparisons: for measurements."""
    _remembered.cache_clear()
