"""Answers in words: closed classes by their member, signs as they stand, free text only where a rule can tell.

- A number among the references is a number: `1,000`, `seven`.
- Yes and no, true and false, colours, directions: decided by the class's member that the completion states, whatever it
  explains behind it.
- A reference with signs (`C++`, `x > 3`, `(2, -3)`) is met by those signs in that order.
- Anything else: the same words are right; words without the reference, a denied reference and one of several items are
  wrong; the reference among words that nobody accounts for is undecided.
"""

from __future__ import annotations

import re
from functools import lru_cache

from schemas.prompts import PromptRow
from schemas.values import plain_text
from stages.score.answers.closed_classes import by_class, member_of
from stages.score.answers.markers import (
    BUT,
    CHINESE_FILLERS,
    FILLERS,
    GRAMMAR,
    NEGATORS,
    SPLITS,
)
from stages.score.answers.negation import CLAUSE, SCRIPT, calls_wrong, denies, denies_in_script
from stages.score.answers.normalize import phrase, plain, signed, spaced
from stages.score.answers.reading import Reading, plain_markup

_ARTICLE = re.compile(r"^(?:a|an|the|eine?|der|die|das|une?|la|le|les|el|los|las)\s+(?=\w)", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[a-z0-9)\"'][.!?])\s+(?=[A-Z])|(?<=[。！？])|\n+")
_NAMED_FUNCTION = re.compile(r"\\(?=(?:log|ln|sin|cos|tan|exp|max|min|lim|gcd|mod|deg|det)(?![A-Za-z]))")
_EITHER = re.compile(r"\bor\b|\boder\b|或者?|还是|還是|または|또는", re.IGNORECASE)
_LISTED = re.compile(r"(?<=\d),(?=-?\d)")
_KEPT_SIGNS = frozenset("+-*/^=<>%#@&|~\\_≤≥≠±")
"""Signs that change what a word is when they touch it: `C` in `C++`, `5` in `-5`."""
_STATES = frozenset(["is", "are", "be", "by", "ist", "est", "es", "是", "为"])
_LONG = 12
"""References of more words than this are sentences: other words may say the same."""


def compare(row: PromptRow, gold: str, reading: Reading) -> tuple[bool | None, str | None]:
    """Whether the completion's words are the reference, and why not; None where this rule can't tell."""
    final, expected = _normal(reading.final), _normal(gold)
    if _same(expected, final) or (reading.noted != reading.final and _same(expected, _normal(reading.noted))):
        return True, None
    # What is marked is looked at first, then its first sentence, for an explanation may stand behind it.
    if reading.mark and (first := _SENTENCE.split(final)[0]) != final and _same(expected, _normal(first)):
        return True, None
    if member := member_of(expected):
        return by_class(row, member, final, reading)
    if len(phrase(expected)) <= 2:
        return False, f"{gold!r} is not the answer"
    return _free(row, gold, expected, final, reading)


def _normal(text: str) -> str:
    return _ARTICLE.sub("", _NAMED_FUNCTION.sub("", plain_markup(plain(text))).strip().rstrip(".。!！").strip())


@lru_cache(maxsize=4096)
def _tokens(text: str) -> tuple[str, ...]:
    """Words and signs, without those that only set them apart; `(2,3)` holds two numbers, as `(2, 3)` does."""
    if any(bracket in text for bracket in "([{"):
        text = _LISTED.sub(", ", text)
    return tuple(t for t in signed(text) if t not in {'"', "'", ",", ".", "!", "?", ";", ":", "。", "，", "！"})


def _same(a: str, b: str) -> bool:
    if _tokens(a) == _tokens(b) and bool(_tokens(a)):
        return True
    # `stop-sign` and `stop sign`, `(red)` and `red`: signs count where the reference is more than words.
    return (
        not _signs(a)
        and phrase(a) == phrase(b)
        and len(phrase(a)) > 2
        and not _KEPT_SIGNS - {"-"} & {*b}
        and not b.startswith("-")
    )


def _signs(text: str) -> bool:
    return any(not t[0].isalnum() and t not in "-'\"" for t in _tokens(text)) or text.startswith("-")


def _free(row: PromptRow, gold: str, expected: str, final: str, reading: Reading) -> tuple[bool | None, str | None]:
    words = phrase(expected)
    if _signs(expected) or any(s in expected for s in "+#^_<>=*/\\"):
        return _by_signs(gold, expected, final)
    if words not in spaced(final):
        if reading.mark != "" or words not in spaced(reading.whole):
            sentence = len(words.split()) > _LONG
            return (
                (None, "a long reference, said in other words")
                if sentence
                else (False, f"{gold!r} is not in the answer")
            )
        final = reading.whole
    places = [_denied_or_touched(clause, words) for clause in CLAUSE.split(final)]
    named = [place for place in places if place is not None]
    if named and all(denied for denied, _ in named) and not _denies_itself(words):
        return False, f"the answer denies {gold!r}"
    if any(touched for _, touched in named):
        return False, f"{gold!r} is part of another word"
    if others := _other_items(row, final, words):
        return False, f"the answer also says {', '.join(others[:4])}"
    left = _unaccounted(row, final, words)
    return (True, None) if not left else (None, f"{gold!r} stands among other words: {', '.join(left[:4])}")


def _by_signs(gold: str, expected: str, final: str) -> tuple[bool | None, str | None]:
    """A reference with signs: the very same run of words and signs, touched by no other sign."""
    want, have = _tokens(expected), _tokens(final)
    for at in range(len(have) - len(want) + 1):
        if have[at : at + len(want)] == want:
            beside = {*have[max(0, at - 1) : at], *have[at + len(want) : at + len(want) + 1]}
            return (None, f"{gold!r} stands among other signs") if beside & _KEPT_SIGNS else _rest(have, at, want, gold)
    return False, f"{gold!r} is not in the answer"


def _rest(have: tuple[str, ...], at: int, want: tuple[str, ...], gold: str) -> tuple[bool | None, str | None]:
    before, after = have[:at], have[at + len(want) :]
    if denies([*before]):
        return False, f"the answer denies {gold!r}"
    # `The point is (2, 3)`: a sentence that ends in the reference.
    if not after and before and before[-1] in _STATES and not any(t.isdigit() or t in _KEPT_SIGNS for t in before):
        return True, None
    left = [w for w in (*before, *after) if w not in GRAMMAR and w not in FILLERS and w not in "().,;:$"]
    return (True, None) if not left else (None, f"{gold!r} stands among other words: {', '.join(left[:4])}")


def _denies_itself(words: str) -> bool:
    return any(w in NEGATORS for w in words.split())


def _denied_or_touched(clause: str, words: str) -> tuple[bool, bool] | None:
    """Whether a clause denies the reference, and whether signs make it part of another word; None where it lacks it."""
    text = spaced(clause)
    at = text.find(words)
    if at < 0:
        return None
    denied = denies(text[:at].split()) or calls_wrong(text[at + len(words) :])
    if SCRIPT.search(words):
        bare, raw = words.replace(" ", ""), clause.replace(" ", "")
        place = raw.lower().find(bare)
        if place >= 0:
            denied = denied or denies_in_script(raw[:place], raw[place + len(bare) :])
    tokens, want = signed(clause), tuple(words.split())
    for n in range(len(tokens) - len(want) + 1):
        if tokens[n : n + len(want)] == want:
            beside = {*tokens[n + len(want) : n + len(want) + 1]}
            return denied, bool(
                beside & {"+", "#", "^", "_", "*", "/", "%"} and f"{want[-1]}{next(iter(beside))}" in clause.lower()
            )
    return denied, False


def _other_items(row: PromptRow, text: str, words: str) -> list[str]:
    """The other items of an enumeration of which the reference is one; empty where there is none.

    `Paris, London`, `a dog or a cat`, `狗、猫`: items that are bare names. `Paris, the capital of France` and
    `Honey, of course` have words of grammar, and comment.
    """
    known = GRAMMAR | FILLERS | {*spaced(plain_text(row.messages)).split()}
    items = [spaced(item) for item in SPLITS.split(plain(text))]
    if len(items) < 2:
        return []
    own = {*words.split()}
    content = [[w for w in item.split() if (w not in known and w not in CHINESE_FILLERS) or w in own] for item in items]
    if not any(set(c) == own for c in content):
        # `they eat honey or rice`: the words around the reference belong to the sentence.
        if not _EITHER.search(text) or not any(words in item for item in items):
            return []
        return [i.strip() for i, c in zip(items, content, strict=True) if c and words not in i and not _denies_item(i)][
            :4
        ]
    others = []
    for item, named in zip(items, content, strict=True):
        bare = [w for w in item.split() if w not in ("a", "an", "the") and w not in CHINESE_FILLERS]
        if named and words not in item and named == bare and len(bare) <= 4 and not _denies_item(item):
            others.append(item.strip())
    return others


def _denies_item(item: str) -> bool:
    return any(w in NEGATORS for w in item.split()[:2]) or bool(
        re.match(r"\s*(?:不是|不|非|没有)", item.replace(" ", ""))
    )


def _unaccounted(row: PromptRow, text: str, words: str) -> list[str]:
    """Words that neither the reference, the question, the row's facts nor plain grammar account for."""
    said = spaced(text)
    for clause in CLAUSE.split(text):
        # What is denied is not named.
        tokens = spaced(clause).split()
        if words not in spaced(clause) and any(w in NEGATORS for w in tokens[:2]):
            said = said.replace(spaced(clause), " ")
    known = GRAMMAR | FILLERS | CHINESE_FILLERS | {*words.split()} | {*BUT.split("|")}
    known |= {*spaced(plain_text(row.messages)).split()} | {*spaced(" ".join(row.facts)).split()}
    return sorted({w for w in said.split() if w not in known and w not in NEGATORS})
