"""Numbers in words: `minus twenty-five`, `two dozen`, `three and a half`, `one hundred and five`, 十二, 1万.

English by a small grammar over its number words; Chinese numerals (Japanese writes the same) by their places. A word
that stands for one is mostly no number (`one of them`, 一样), so it counts only where nothing else is one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from stages.score.answers.markers import NEGATORS, NUMBER_WORDS

SCALES = {"hundred": 100, "dozen": 12, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = (
    "half halves 2 third thirds 3 quarter quarters 4 fourth fourths 4 fifth fifths 5 eighth eighths 8 tenth tenths 10"
)
PARTS: dict[str, int] = {}
"""Words for a part: `half` and `halves` are a second."""
_waiting: list[str] = []
for _word in _PARTS.split():
    if _word.isdigit():
        PARTS |= dict.fromkeys(_waiting, int(_word))
        _waiting = []
    else:
        _waiting.append(_word)
_MINUS = "minus|negative|moins|menos|meno"
MINUS = re.compile(
    rf"(?<![\d)\]}}]\s)\b(?:{_MINUS})\s+(?=[$€£]?[\d.])|(?:负|負|マイナス\s?|마이너스\s?)(?=\d)", re.IGNORECASE
)
"""A sign in words in front of digits; `10 minus 3` takes away."""
SCALED = re.compile(
    r"\s?(?:(hundred|thousand|million|billion|trillion|dozen)\b|(k|(?-i:M))(?![\w(^*/+-])|([百千万萬亿億]+))",
    re.IGNORECASE,
)
"""A scale behind digits: `2.5 million`, `3k`, 1万."""
_DIGITS = {c: n for n, cs in enumerate(("零〇", "一", "二两兩", "三", "四", "五", "六", "七", "八", "九")) for c in cs}
_PLACES = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_HAN = re.compile(f"[{''.join([*_DIGITS, *_PLACES, *_MYRIADS])}]+")
_COUNTERS = "个個只隻条條张張本辆輛匹枚位件块塊颗顆人つ"
# A numeral is one where it counts something, or is all that is said behind a name, `is`, `has`: 三个, 答案是三.
_COUNTS = re.compile(rf"[{_COUNTERS}]")
_STANDS = re.compile(r"(?:^|[\s。，、,.:：=(（是为為有共于於は])$")
_ENDS = re.compile(r"$|[\s。，、,.!！)）]|です|である")


def scale_of(text: str) -> int:
    """How many times what stands in front is meant: 1000 of ` thousand apples`; 1 where no scale follows."""
    found = SCALED.match(text)
    if found is None:
        return 1
    if found[1]:
        return SCALES[found[1].lower()]
    if found[2]:
        return 1000 if found[2] in "kK" else 10**6
    return int(han("一" + found[3]) or 1)


def last_in_words(words: Sequence[str]) -> tuple[Fraction, str] | None:
    """The last number among words in lower case that is not denied, and how it is written; None where there is none."""
    found: list[tuple[int, int, Fraction]] = []
    at = 0
    while at < len(words):
        end, value = _run(words, at)
        if end > at:
            found.append((at, end, value))
        at = max(end, at + 1)
    kept = [f for f in found if not (f[0] and words[f[0] - 1] in NEGATORS)]
    numbers = [f for f in kept if words[f[0] : f[1]] != ["one"]]
    # `four out of five`: what it is a part of comes after it.
    whole = [f for f in numbers if "of" not in words[max(0, f[0] - 2) : f[0]]]
    if not kept:
        return None
    begin, end, value = (whole or numbers or kept)[-1]
    before = words[begin - 1] if begin else ""
    if re.fullmatch(_MINUS, before) and not (begin > 1 and any(e == begin - 1 for _, e, _ in found)):
        begin, value = begin - 1, -value
    return value, " ".join(words[begin:end])


def _run(words: Sequence[str], at: int) -> tuple[int, Fraction]:
    """Where the number that begins there ends, and its value; the same place where none begins."""
    start, end, total, current = at, at, 0, -1
    while at < len(words):
        word = words[at]
        if word in SCALES:
            # `a dozen`, `a hundred`; `hundred` is a number word of its own as well.
            current = max(current, 1)
            if SCALES[word] < 1000:
                current *= SCALES[word]
            else:
                total, current = total + current * SCALES[word], 0
        elif word in NUMBER_WORDS and _joins(current, NUMBER_WORDS[word]):
            current = max(current, 0) + NUMBER_WORDS[word]
        elif (
            end > start
            and word == "and"
            and current % 100 == 0
            and at + 1 < len(words)
            and words[at + 1] in NUMBER_WORDS
        ):
            at += 1
            continue
        else:
            break
        at = end = at + 1
    whole = Fraction(total + max(current, 0))
    return _with_part(words, start, end, whole)


def _joins(current: int, number: int) -> bool:
    """Whether a number word goes on with what is there: five after twenty or a hundred, nothing after five."""
    if current < 0 or current == 0:
        return True
    return (0 < number < 10 and current % 100 >= 20 and current % 10 == 0) or (current % 100 == 0 and 0 < number < 100)


def _with_part(words: Sequence[str], start: int, end: int, whole: Fraction) -> tuple[int, Fraction]:
    """With a part behind it: `two thirds`, `a half`, `three and a half`."""
    rest = [*words[end : end + 3], "", "", ""]
    if end > start and rest[0] in PARTS:
        return end + 1, whole / PARTS[rest[0]]
    if end > start and rest[0] == "and" and rest[1] in ("a", "one") and rest[2] in PARTS:
        return end + 3, whole + Fraction(1, PARTS[rest[2]])
    if end == start and rest[0] == "a" and rest[1] in ("half", "quarter"):
        return end + 2, Fraction(1, PARTS[rest[1]])
    return end, whole


def last_in_han(text: str) -> tuple[Fraction, str] | None:
    """The last Chinese numeral that counts something or stands as the answer; None where there is none."""
    found = []
    for m in _HAN.finditer(text):
        before, after = text[: m.start()], text[m.end() :]
        counts = _COUNTS.match(after) and not before.endswith("第")
        value = han(m.group()) if counts or (_STANDS.search(before) and _ENDS.match(after)) else None
        if value is not None:
            found.append((Fraction(value), m.group()))
    return next((f for f in reversed(found) if f[1] != "一"), found[-1] if found else None)


def han(text: str) -> int | None:
    """A Chinese numeral as a number: 一百零五, 两万三千; None for what is none."""
    total, section, digit = 0, 0, -1
    for char in text:
        if char in _DIGITS:
            if digit > 0:
                return None
            digit = _DIGITS[char]
        elif char in _PLACES:
            section, digit = section + (digit if digit > 0 else 1) * _PLACES[char], -1
        elif char in _MYRIADS:
            total, section, digit = (total + section + max(digit, 0)) * _MYRIADS[char], 0, -1
        else:
            return None
    return total + section + max(digit, 0)
