"""IFBench's counts: words, numbers, names, pronouns, marks (arXiv:2507.02833)."""

from __future__ import annotations

import re

from stages.judging.instructions.base import Checks, Count
from stages.judging.instructions.text import BLANK_OR_MARK, bare, plain_words, tokens
from stages.judging.instructions.word_lists import listed

_CONJUNCTIONS = frozenset(["and", "but", "for", "nor", "or", "so", "yet"])
_PERSONS = listed(
    """
    Emma Liam Sophia Jackson Olivia Noah Ava Lucas Isabella Mason Mia Ethan Charlotte Alexander Amelia Benjamin
    Harper Leo Zoe Daniel Chloe Samuel Lily Matthew Grace Owen Abigail Gabriel Ella Jacob Scarlett Nathan Victoria
    Elijah Layla Nicholas Audrey David Hannah Christopher Penelope Thomas Nora Andrew Aria Joseph Claire Ryan Stella
    Jonathan
    """
)
"""The names that the instruction itself lists."""
_PRONOUNS = frozenset(
    listed(
        """
    i me we us you he him she her it they them my mine our ours your yours his hers its their theirs myself
    ourselves yourself yourselves himself herself itself themselves this that these those who whom whose which what
    whoever whomever whatever whichever anybody anyone anything everybody everyone everything nobody nothing
    somebody someone something each either neither both all some any none
    """
    )
)
_JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
_INTERROBANGS = ("?!", "!?")


def word_count_range(completion: str, min_words: int, max_words: int) -> bool:
    """Between so many and so many words."""
    return min_words <= len(plain_words(completion)) <= max_words


def unique_word_count(completion: str, N: Count) -> bool:
    """At least N different words. A word is what stands between blanks; a mark alone counts as one."""
    return len({word.strip(BLANK_OR_MARK) for word in completion.lower().split()}) >= N


def conjunctions(completion: str, small_n: Count) -> bool:
    """At least so many different ones of and, but, for, nor, or, so, yet.

    Trap: as upstream counts, `And`, `and` and `and,` are three.
    """
    return len({w for w in completion.split() if w.strip(BLANK_OR_MARK).lower() in _CONJUNCTIONS}) >= small_n


def person_names(completion: str, N: Count) -> bool:
    """At least N of fifty first names, each in its own capitals."""
    return sum(bool(re.search(rf"\b{name}\b", completion)) for name in _PERSONS) >= N


def numbers(completion: str, N: int) -> bool:
    """Exactly N numbers. Trap: marks are taken out first, so that `3.5` is one number, and `1-2` is one, too."""
    return len(re.findall(r"\d+", bare(completion))) == N


def punctuation(completion: str) -> bool:
    """An interrobang, and all of . , ! ? ; : beside it. Other marks are not asked for."""
    for pair in _INTERROBANGS:
        if pair in completion:
            # The marks of the interrobang do not stand in for those that are to be there by themselves.
            return set(".,!?;:") <= set(completion.replace(pair, "", 1))
    return "‽" in completion and set(".,!?;:") <= set(completion)


def words_japanese(completion: str, N: Count) -> bool:
    """Every Nth word has a Japanese character. Numbers and lone marks may stand there as well."""
    words = (word.strip(BLANK_OR_MARK) for word in completion.split()[N - 1 :: N])
    return all(not word or word.isdigit() or _JAPANESE.search(word) for word in words)


def pronouns(completion: str, N: Count) -> bool:
    """At least N pronouns. Trap: `this`, `that`, `all` and `some` count as pronouns wherever they stand."""
    return sum(word in _PRONOUNS for word in tokens(completion.lower().replace("/", " "))) >= N


def keywords_multiple(
    completion: str, keyword1: str, keyword2: str, keyword3: str, keyword4: str, keyword5: str
) -> bool:
    """Five keywords, 1, 2, 3, 5 and 7 times. Trap: inside longer words, too."""
    text = completion.lower()
    wanted = zip((keyword1, keyword2, keyword3, keyword4, keyword5), (1, 2, 3, 5, 7), strict=True)
    return all(text.count(keyword.strip().lower()) == times for keyword, times in wanted)


PLUGIN = Checks(
    version=1,
    checks={
        "count:word_count_range": word_count_range,
        "count:unique_word_count": unique_word_count,
        "count:conjunctions": conjunctions,
        "count:person_names": person_names,
        "count:numbers": numbers,
        "count:punctuation": punctuation,
        "count:words_japanese": words_japanese,
        "count:pronouns": pronouns,
        "count:keywords_multiple": keywords_multiple,
    },
)
