"""Word lists as they are read well: a text of many words, and no line for each."""

from __future__ import annotations


def listed(words: str) -> tuple[str, ...]:
    """The words of a text, in their order."""
    return tuple(words.split())
