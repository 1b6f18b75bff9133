"""The words of a text, as IFBench counts them: three ways, of which each check has its own."""

from __future__ import annotations

import re
import string

from stages.judging.instructions.sentences import sentences

BLANK_OR_MARK = string.punctuation + " "
"""What is stripped of words and lines: ASCII punctuation alone, and no curly quotes."""
_NO_MARKS = str.maketrans("", "", string.punctuation)


def bare(text: str) -> str:
    """The text without ASCII punctuation: `don't` is `dont`, `well-known` one word, `3.5` is `35`."""
    return text.translate(_NO_MARKS)


def plain_words(text: str) -> list[str]:
    """Runs of letters, digits and underscores: `don't` is two."""
    return re.findall(r"\w+", text)


_APART = re.compile(r"\.{2,}|--|``|[;@#$%&?!*()\[\]{}<>\"“”‘’«»„`—]|[:,](?!\d)")
_LAST_STOP = re.compile(r"(?<!\.)\.(?=[\])}>\"'\s»”’]*$)")
_SHORT_FORM = re.compile(r"(?<=\w)(n't|N'T|'(?:[sSmMdD]|ll|LL|re|RE|ve|VE))$")
_TWO = {
    "cannot": 3,
    "gimme": 3,
    "gonna": 3,
    "gotta": 3,
    "lemme": 3,
    "wanna": 3,
    "d'ye": 2,
    "more'n": 4,
    "'tis": 2,
    "'twas": 2,
}
"""Words written as one that are two, and where the second begins."""


def tokens(text: str) -> list[str]:
    """Words and marks apart, in the way of the Penn Treebank: `Don't!` is `Do`, `n't`, `!`.

    A full stop is a token of its own only where it ends a sentence; `9:30`, `1,000` and `and/or` are one token each.
    """
    found = []
    for sentence in sentences(text):
        apart = _LAST_STOP.sub(" . ", _APART.sub(lambda m: f" {m.group()} ", sentence))
        for chunk in apart.split():
            found += _parts(chunk)
    return found


def _parts(chunk: str) -> list[str]:
    if (at := _TWO.get(chunk.lower())) is not None:
        return [chunk[:at], chunk[at:]]
    if short := _SHORT_FORM.search(chunk):
        return [*_parts(chunk[: short.start()]), short.group()]
    if len(chunk) > 1 and chunk[0] == "'":
        return ["'", *_parts(chunk[1:])]
    if len(chunk) > 1 and chunk[-1] == "'":
        return [*_parts(chunk[:-1]), "'"]
    return [chunk]
