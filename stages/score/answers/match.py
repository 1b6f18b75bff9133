"""Is a completion's answer the reference? One reader, then one rule for each `answer_kind`, for all verifiers."""

from __future__ import annotations

import json
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from schemas.prompts import PromptRow
from stages.score.answers import choices, maths, numbers, numerals, texts
from stages.score.answers.normalize import signed
from stages.score.answers.reading import Reading, read

KINDS = ("number", "choice", "choices", "text", "math")


class Match(NamedTuple):
    """Whether an answer is right, what was compared, and why it is not."""

    right: bool | None
    """None where the rule can't tell: no reward, and no zero either."""
    seen: str | None = None
    reason: str | None = None
    credit: float | None = None
    """A part of the whole, where the row's rule gives one."""

    @property
    def value(self) -> float:
        """1 or 0, or the part that the row's rule gives."""
        return float(bool(self.right)) if self.credit is None else self.credit


@lru_cache(maxsize=256)
def _rule(text: str) -> dict[str, float | str]:
    return dict(json.loads(text))


def match(row: PromptRow, answer: str) -> Match:
    """Compare an answer with the row's references by the row's `answer_kind`.

    The row must have a reference. Where it gives no kind, options mean choice, a numeric reference means number, a
    backslash means math, and anything else is text. Of several accepted references the best verdict counts. Raises
    `math_pool.TimedOut` and `math_pool.JobFailed` where algebra is needed and fails, ValueError for an unknown kind.
    """
    assert row.answer is not None
    kind = row.answer_kind or guess_kind(row.answer, row.choices)
    if kind not in _RULES:
        raise ValueError(f"unknown answer_kind {kind!r}; known: {', '.join(_RULES)}")
    if not answer.strip():
        return Match(False, None, "nothing follows the think block")
    reading = read(answer, kind in ("choice", "choices"))
    if not reading.whole:
        return Match(False, None, "nothing follows the think block")
    best = _RULES[kind](row, row.answer, reading)
    for gold in row.accepted:
        if best.right:
            break
        found = _RULES[kind](row, gold, reading)
        if found.right or (best.right is False and found.right is None):
            best = found
    return best


def guess_kind(gold: str, options: list[str]) -> str:
    """How a reference without a kind is compared."""
    if options:
        return "choices" if choices.several(gold, options) and len(gold.strip()) > 1 else "choice"
    if numerals.as_value(gold) is not None:
        return "number"
    return "math" if "\\" in gold else "text"


def tolerance(row: PromptRow) -> tuple[str, Fraction] | None:
    """How far a number may be from the reference by the row's `answer_rule`; None for exactly."""
    if row.answer_rule:
        rule = _rule(row.answer_rule)
        for kind in ("relative", "absolute"):
            if kind in rule:
                return kind, Fraction(str(rule[kind]))
    return None


def _number(row: PromptRow, gold: str, reading: Reading) -> Match:
    """Equal as exact numbers, within the row's tolerance; a decimal reference also takes what rounds to it."""
    expected = numerals.as_value(gold) or numerals.with_unit(gold)
    if expected is None:
        # Upstream calls some answers numbers that are not: `3:45`, `x = 2`. As text where nothing in it is mathematics.
        mathematical = any(c.isdigit() for c in gold) and any(c in gold for c in "\\^=")
        return _math(row, gold, reading) if mathematical else _text(row, gold, reading)
    found = numbers.final_value(reading)
    if found is None:
        several = any(c.isdigit() for c in reading.final)
        return Match(False, None, f"no {'single ' if several else ''}number in the answer")
    if numbers.equal(expected, found, tolerance(row)):
        return Match(True, found.written)
    return Match(False, found.written, f"{found.written} is not {gold}")


def _choice(row: PromptRow, gold: str, reading: Reading) -> Match:
    """The chosen option is the reference option, by letter or text (MATH-V also takes the option's value)."""
    expected = choices.option_index(gold, row.choices)
    if expected is None:
        if choices.several(gold, row.choices):
            return _choices(row, gold, reading)
        found = _number(row, gold, reading) if numerals.as_value(gold) is not None else _text(row, gold, reading)
        # Among options, a reference that is none of them can be met by its own words alone.
        return found if found.right or not row.choices else Match(None, found.seen, f"{gold!r} is none of the options")
    picked = choices.chosen(reading, tuple(row.choices), max(5, expected + 1))
    if len(picked) != 1:
        value = row.choices[expected] if row.choices else ""
        if not picked and numerals.as_value(value) is not None and (final := _number(row, value, reading)).right:
            return final
        return Match(False, None, "several options in the answer" if picked else "no single option in the answer")
    found_index = next(iter(picked))
    name = row.choices[found_index] if row.choices else chr(65 + found_index)
    if found_index == expected:
        return Match(True, name)
    # Two options may have one text: said in words it is right, by the other's letter it is not.
    if (
        row.choices
        and signed(name) == signed(row.choices[expected])
        and not choices.names_letter(reading, len(row.choices))
    ):
        return Match(True, name)
    return Match(False, name, f"chose {chr(65 + found_index)}, not {gold}")


def _choices(row: PromptRow, gold: str, reading: Reading) -> Match:
    """Exactly the right options; with the row's rule `partial` some of them and no wrong one give that part."""
    expected = choices.several(gold, row.choices)
    if expected is None:
        return _choice(row, gold, reading)
    picked = choices.chosen(reading, tuple(row.choices), max(5, max(expected) + 1), many=True)
    name = "".join(chr(65 + i) for i in sorted(picked)) or None
    if picked == expected:
        return Match(True, name)
    partial = _rule(row.answer_rule).get("partial") if row.answer_rule else None
    if partial is not None and picked and picked < expected:
        return Match(False, name, f"chose {name} of {gold}", float(partial))
    return Match(False, name, f"chose {name}, not {gold}" if name else "no option in the answer")


def _text(row: PromptRow, gold: str, reading: Reading) -> Match:
    """The same words, class member or number: see `texts`."""
    if numerals.as_value(gold) is not None:
        return _number(row, gold, reading)
    right, reason = texts.compare(row, gold, reading)
    return Match(right, reading.final[:200], reason)


def _math(row: PromptRow, gold: str, reading: Reading) -> Match:
    """Equal as mathematics: same spelling or exact numbers at once, anything else by algebra."""
    right, seen, reason = maths.compare(gold, reading, tolerance(row))
    if not right and (words := maths.in_text(gold)) and (found := _text(row, words, reading)).right is not False:
        return found
    return Match(right, seen, reason)


_RULES = {"number": _number, "choice": _choice, "choices": _choices, "text": _text, "math": _math}
