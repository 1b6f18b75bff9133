"""Yes and no, true and false, colours, shapes, directions: which member of a closed class a completion states.

Decided by the member that is stated, whatever is explained behind it; a denied one is not stated, and one of those that
the question offers itself counts only where it is the reference's.
"""

from __future__ import annotations

import re
from functools import lru_cache

from schemas.prompts import PromptRow
from schemas.values import plain_text
from stages.score.answers.markers import (
    ADVERBS,
    CLASS_OF,
    CONCEDES,
    FILLERS,
    GRAMMAR,
    NEGATORS,
    RETRACTS,
    SPLITS,
    TURNS,
)
from stages.score.answers.negation import CLAUSE, SCRIPT, denies, denies_in_script, idiom
from stages.score.answers.normalize import plain, spaced
from stages.score.answers.reading import Reading

_HEDGES = frozenset(["or", "and", "but", "no", "not", "then", "possibly", "oder", "und", "ou", "et"]) | ADVERBS
_BARE_DENIAL = re.compile(r"(?:of course |well )?not(?: at all| in the least)?")


def member_of(text: str) -> tuple[str, str] | None:
    """The closed class of a one-word reference and which member it is."""
    return next(iter(CLASS_OF.get(text.lower(), [])), None)


def by_class(row: PromptRow, member: tuple[str, str], final: str, reading: Reading) -> tuple[bool | None, str | None]:
    """Decided by the member that is stated: first of all, or alone, or alone in the last sentence of a long text."""
    kind, expected = member
    asked = _asked_members(row, kind)
    asked = frozenset() if expected in asked else asked
    parts = [final] if reading.mark or len(final) < 200 else [_last_line(final), final]
    # What was asked or taken back counts no more, where something is said in its place.
    later = RETRACTS.split(final)[-1].rpartition("?")[2]
    if later != final and _members(later, kind)[0]:
        parts = [later]
    for part in parts:
        stated, denied = _members(part, kind)
        first = _opening(part, kind)
        if first and not _offers(part, kind) and (kind in ("yes_no", "true_false") or _explains(part, kind)):
            return _verdict(first == expected, first, expected)
        left = stated - asked if stated - asked else stated
        if len(left) == 1:
            return _verdict(left == {expected}, next(iter(left)), expected)
        if left:
            return False, f"the answer names {', '.join(sorted(left))}"
        if expected in denied:
            return False, f"the answer denies {expected!r}"
        # Of two, what is not the one is the other.
        if kind == "true_false" and len(denied) == 1:
            return True, None
    if kind == "yes_no" and (said := _in_other_words(row, final)) is not None:
        return _verdict(said == expected, said, expected)
    # Yes or no may be said in other words; another colour may have a name that is not in the list.
    return (
        (None, "neither is said") if kind in ("yes_no", "true_false") else (False, f"{expected!r} is not in the answer")
    )


def _in_other_words(row: PromptRow, final: str) -> str | None:
    """Yes or no where the question is repeated as a statement, or nothing but a denial is said; None for anything else.

    `There is a dog` to `Is there a dog in the picture?`, in the words' order; `certainly not`.
    """
    words, asked = spaced(final).split(), spaced(plain_text(row.messages)).split()
    if final.rstrip().endswith("?"):
        return None
    if _BARE_DENIAL.fullmatch(" ".join(w for w in words if w not in ADVERBS)):
        return "no"
    denied = [w for w in words if w in NEGATORS or w.endswith("n't")]
    content = [w for w in words if w not in GRAMMAR | FILLERS | NEGATORS | ADVERBS and w not in denied]
    if not content:
        return None
    rest = iter([] if NEGATORS & {*asked} else asked)
    # `in` on an iterator goes on from where it was: the words must come in the question's order.
    return ("no" if denied else "yes") if all(word in rest for word in content) else None


def _verdict(right: bool, found: str, expected: str) -> tuple[bool, str | None]:
    return right, None if right else f"{found} is not {expected}"


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else text


def _asked_members(row: PromptRow, kind: str) -> frozenset[str]:
    return frozenset() if kind in ("yes_no", "true_false") else _members(plain_text(row.messages), kind)[0]


def _opening(text: str, kind: str) -> str | None:
    """The member that a text opens with."""
    words = spaced(text).split()
    words = words[2:] if words and idiom(words, 0) else words
    for count in (4, 3, 2, 1):
        for joint in ("", " "):
            if (found := _named(joint.join(words[:count]), kind)) is not None and len(words) >= count:
                return found
    return None


def _explains(text: str, kind: str) -> bool:
    """Whether a text goes on behind its first word with more than other members: `red, like the bus by the green tree`.

    `Red, green` and `red, or maybe green` offer several; `red. But it is green` turns round.
    """
    head, *rest = CLAUSE.split(plain(text), maxsplit=1)
    if not rest or len(spaced(head).split()) > 1 or TURNS.search(text):
        return False
    words = spaced(CLAUSE.split(rest[0])[0]).split()
    content = [w for w in words if w not in GRAMMAR | FILLERS | ADVERBS and _named(w, kind) is None]
    return len(content) > 1 and not _HEDGES & {*words[:1]}


def _offers(text: str, kind: str) -> bool:
    """Whether a text names both members as alternatives: `yes and no`, `yes or no`."""
    items = [_named(item.strip().lower().strip(".!"), kind) for item in SPLITS.split(text)]
    return len({item for item in items if item}) > 1


def _named(word: str, kind: str) -> str | None:
    return next((member for name, member in CLASS_OF.get(word, ()) if name == kind), None)


@lru_cache(maxsize=4096)
def _class_words(kind: str) -> tuple[tuple[str, str], ...]:
    """The class's words of scripts without spaces, the longest first."""
    found = [(w, m) for w, members in CLASS_OF.items() for n, m in members if n == kind and SCRIPT.search(w)]
    return tuple(sorted(found, key=lambda pair: -len(pair[0])))


def _members(text: str, kind: str) -> tuple[frozenset[str], frozenset[str]]:
    """The class's members that a text states, and those that it only denies."""
    stated: set[str] = set()
    denied: set[str] = set()
    clauses = CLAUSE.split(plain(text))
    # What is only granted is not stated: `no, although some say yes`.
    for clause in [c for c in clauses if not CONCEDES.match(c)] if len(clauses) > 1 else clauses:
        words = spaced(clause).split()
        for n, word in enumerate(words):
            # Characters of scripts without spaces come one by one here; their words are looked for below.
            if (member := _named(word, kind)) is None or SCRIPT.match(word):
                continue
            # `no` is itself a member of its class; what it denies is another word's business.
            before = [w for w in words[:n] if kind != "yes_no" or _named(w, kind) is None]
            (denied if denies(before) else stated).add(member)
        if SCRIPT.search(clause):
            _members_of_script(clause, kind, stated, denied)
    return frozenset(stated), frozenset(denied - stated)


def _members_of_script(clause: str, kind: str, stated: set[str], denied: set[str]) -> None:
    for word, member in _class_words(kind):
        while (at := clause.find(word)) >= 0:
            before, after = clause[:at], clause[at + len(word) :]
            away = kind != "yes_no" and denies_in_script(before, after)
            (denied if away else stated).add(member)
            # Taken out, so that a shorter word inside it is not found again.
            clause = before + "\u3000" + after
