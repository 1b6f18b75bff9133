"""What a completion's answer is: the last boxed expression, number, or chosen option, by rule.

Numbers follow GSM8K (`#### n`, or `A: n` in its older files; commas dropped; the last number otherwise).
Options follow VLMEvalKit's matching (letters on their own, else a unique option text), without a random
guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from stages.score.answers.normalize import phrase, plain, spaced

# The look-behind keeps from taking the 2 of `x2` or the 3 of `1.2.3`. All groups are non-capturing: `findall` gives
# whole numbers.
NUMBER = re.compile(
    r"""(?<![A-Za-z_\d.])(?:
        (?:(?<![\w.)\]])-\s?)?\$?             # a minus sign, unless it subtracts; a currency sign
        (?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)      # thousands by commas, or plain digits
        (?:\.\d+)?(?:/\d+(?![\d.]))?          # decimals, a denominator
        |(?<!\d)-?\.\d+                       # .5
    )""",
    re.VERBOSE,
)
# `#### 42` ends GSM8K's solutions; older files have `A: 42`.
_MARKED = re.compile(r"####[ \t]*(.+)|^[ \t]*A:[ \t]*(.+)", re.MULTILINE)
_STATED = re.compile(
    r"\b(?:final answer|answer|correct (?:option|choice|answer)|result)\b\s*(?:is\b|are\b|:|=)\s*:?\s*(.+)",
    re.IGNORECASE,
)
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    " seventeen eighteen nineteen twenty"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety hundred"
NUMBER_WORDS = {word: n for n, word in enumerate(_UNITS.split())}
NUMBER_WORDS |= {word: 10 * n for n, word in enumerate(_TENS.split(), start=2)}
_MAX_DIGITS = 400
"""Longer digit strings are a model running on, not a number."""


def boxed(text: str) -> str | None:
    r"""The inside of the last `\boxed{...}` with balanced braces, or None."""
    # The last box counts: worked solutions box what they reach on the way.
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    inside = text.index("{", start) + 1
    depth = 1
    for at in range(inside, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[inside:at]
    return None


def stated(text: str) -> str | None:
    r"""What the completion itself marks as its answer: boxed, after `####`, `A:` or `answer is`; or None."""
    # A box is meant for a machine, `####` nearly so; `the answer is` occurs in plain sentences, so it comes last.
    if (inner := boxed(text)) is not None:
        return inner
    if marks := _MARKED.findall(text):
        return (marks[-1][0] or marks[-1][1]).strip()
    if statements := _STATED.findall(text):
        return str(statements[-1]).strip()
    return None


def gsm8k_final(text: str) -> str | None:
    """GSM8K's own extraction: what follows the last `####` or `A:`, without commas and final dot; or None."""
    marks = _MARKED.findall(text)
    return (marks[-1][0] or marks[-1][1]).replace(",", "").strip().rstrip(".") if marks else None


def as_number(text: str) -> Fraction | None:
    """The text as one exact number (`1,234.5`, `$3`, `3/4`, `50 %`), or None when it is anything else."""
    # `\%` is how LaTeX writes a percent sign, hence the backslash behind it.
    bare = plain(text).strip().strip("$").removesuffix(".").removesuffix("%").removesuffix("\\").strip()
    found = NUMBER.fullmatch(bare)
    return _value(found.group()) if found else None


def _value(number: str) -> Fraction | None:
    if len(number) > _MAX_DIGITS:
        return None
    try:
        return Fraction(number.replace(",", "").replace("$", "").replace(" ", ""))
    # ZeroDivisionError for `3/0`, which a policy writes sooner or later.
    except (ValueError, ZeroDivisionError):
        return None


def last_number(text: str) -> str | None:
    """The last number of a text as it is written; number words up to a hundred where there are no digits.

    `one` counts only when no other number word is there: it is mostly a pronoun.
    """
    if digits := NUMBER.findall(plain(text)):
        return str(digits[-1])
    words = [w for w in spaced(text).split() if w in NUMBER_WORDS]
    return next((w for w in reversed(words) if w != "one"), words[-1] if words else None)


def final_number(answer: str) -> tuple[Fraction | None, str | None]:
    """(value, as written) of the number a completion settles on: in what it marks as its answer, else its last."""
    marked = stated(answer)
    written = (last_number(marked) if marked else None) or last_number(answer)
    if written is None:
        return None, None
    return (Fraction(NUMBER_WORDS[written]) if written in NUMBER_WORDS else _value(written)), written


# In this order: `(B)`; `option B`, `choice: (B)`; `B) because`, `b.` alone; `The answer B fits`.
_PAREN_LETTER = re.compile(r"\(\s*([A-Za-z])\s*\)")
_NAMED_LETTER = re.compile(r"\b(?:option|choice|letter)\s*:?\s*\(?\s*([A-Z])(?=\s*[).,;:]|\s*$)", re.IGNORECASE)
_LEADING_LETTER = re.compile(r"^\W*([A-Z])\s*[).:,]|^\W*([A-Za-z])\W*$")
_ALONE_LETTER = re.compile(r"(?<![^\s(*\"'])([A-Z])(?=[\s.,;:)!?*\"]|$)")


def _letters(text: str) -> Iterator[set[str]]:
    """Candidate letters by rule, the most explicit rule first."""
    lead = _LEADING_LETTER.match(text)
    first = {lead.group(1) or lead.group(2).upper()} if lead else set()
    yield first | {m.upper() for m in _PAREN_LETTER.findall(text)}
    yield {m.upper() for m in _NAMED_LETTER.findall(text)}
    alone = list(_ALONE_LETTER.finditer(text))
    # `A` and `I` before a lower-case word are words of English, not options.
    yield {m.group(1) for m in alone if m.group(1) not in "AI" or not re.match(r"\s+[a-z]", text[m.end() :])}


def _by_letter(text: str, count: int) -> int | None:
    for found in _letters(text):
        inside = {x for x in found if ord(x) - 65 < count}
        # Letters behind the last option are no choice: `(E)` of four options is most likely part of something else.
        if len(inside) == 1:
            return ord(inside.pop()) - 65
        if inside:
            return None
    return None


def _by_text(text: str, choices: list[str]) -> int | None:
    words = spaced(text)
    # `phrase` puts a space on each side, so a length of 2 means that there are no words at all.
    named = [i for i, c in enumerate(choices) if len(phrase(c)) > 2 and phrase(c) in words]
    # An option that is part of another named one (`red` in `dark red`) is not named on its own.
    whole = [i for i in named if not any(i != j and phrase(choices[i]) in phrase(choices[j]) for j in named)]
    return whole[0] if len(whole) == 1 else None


def choice_index(answer: str, choices: list[str], count: int | None = None) -> int | None:
    """The index of the one option that a completion settles on, or None when it names none or several.

    Looks first at what the completion marks as its answer, then at all of it. `count` stands in for the number of
    options where their texts are unknown (letters only).
    """
    total = len(choices) or count or 0
    # Options whose texts are the letters themselves (`A` ... `E` marked in an image) are chosen by letter.
    texts = [] if all(len(c.strip()) == 1 for c in choices) else choices
    for text in (stated(answer), answer):
        if not text:
            continue
        text = plain(text).strip()
        exact = [i for i, c in enumerate(texts) if phrase(c) == spaced(text)]
        if len(exact) == 1 and len(phrase(text)) > 2:
            return exact[0]
        found = _by_letter(text, total)
        if found is None:
            found = _by_text(text, texts)
        if found is not None:
            return found
    return None
