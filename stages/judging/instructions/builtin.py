"""The built-in world's: one word, capitals, exactly k items."""

from __future__ import annotations

import re

from stages.judging.instructions.base import Checks, Count

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_BULLET = re.compile(r"^\s*(?:\d+\s*[.)]|[-*\u2022])\s*")
_SEPARATOR = re.compile(r"\s*(?:[,;\n]|\band\b)\s*")


def one_word(answer: str) -> bool:
    """Exactly one word; punctuation around it is free."""
    return len(_WORD.findall(answer)) == 1


def capitals(answer: str) -> bool:
    """At least one letter, and none in lower case."""
    return answer.isupper()


def items(answer: str) -> list[str]:
    """The items of a list, one a line or parted by commas, semicolons and `and`; without bullets."""
    lines = [_BULLET.sub("", line) for line in answer.splitlines()]
    parts = _SEPARATOR.split("\n".join(lines))
    return [p for p in (part.strip(" .:!?") for part in parts) if _WORD.search(p)]


def k_items(answer: str, k: Count) -> bool:
    """Exactly k items, all of them different."""
    found = [item.lower() for item in items(answer)]
    return len(found) == k and len(set(found)) == k


PLUGIN = Checks(version=1, checks={"one_word": one_word, "capitals": capitals, "k_items": k_items})
