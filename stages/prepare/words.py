"""A text as words to compare: folded, with the signs that make it another question, and without what all rows share.

Characters of scripts written without spaces count as words.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

SHINGLE = 3
_SAMPLE = 64
"""Rows of a source that are looked at for what most rows share."""
_FEWEST = 4
"""Two or three rows that share a text are duplicates, and no source with an instruction."""
# Thai and Lao, Burmese, kana, Chinese characters with extension A and the compatibility block.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_DIGIT = re.compile(r"\d")
# White space in front, then a word, a number or a mark. A decimal, a ratio or a time is one number.
_TOKEN = re.compile(rf"(\s*)([{_UNSPACED}]|[^\W\d{_UNSPACED}]*\d[^\W{_UNSPACED}]*(?:[.:]\d+)*|[^\W{_UNSPACED}]+|\S)")
# What is of a word as it is, all else a space.
_WORDS_OF_ASCII = bytes(b if chr(b).isalnum() or b == ord("_") else 32 for b in range(128)).ljust(256)
_INSIDE_NUMBER = re.compile(r"\w+\W*")
# Without one of these a text is prose: no digit, no sign, no mark but those that end and quote a sentence.
_PROSE = b" \n\t.,;:?'\"abcdefghijklmnopqrstuvwxyz"
"""What most texts are made of, and nothing that must be exact: looked for in a tenth of the time of an expression."""
_MAYBE_EXACT = re.compile(r"""[^\w\s.,;:?!'"]|\d|\b\w!""")
_UNSPACED_WORD = re.compile(rf"[{_UNSPACED}]")
_OF_SENTENCES = frozenset(
    ".,;:?!'\"\u2018\u2019\u201c\u201d\u2026\u00ab\u00bb\u00bf\u00a1\u3002\u3001\u300c\u300d\u300e\u300f"
)
_RAISED = re.compile("[\u00aa\u00b2\u00b3\u00b9\u00ba\u2070-\u207f]")
_LOWERED = re.compile("[\u2080-\u209c]")


def words(text: str) -> list[str]:
    """The text's words, folded."""
    return _words(_folded(text))


def _words(folded: str) -> list[str]:
    if folded.isascii():
        # The same in a third of the time.
        return folded.encode().translate(_WORDS_OF_ASCII).decode().split()
    return _WORD.findall(folded)


def is_prose(text: str) -> bool:
    """Whether there is nothing in a text that must be exact: no digit, no sign, no letter of another alphabet."""
    return text.isascii() and not text.lower().encode().translate(None, _PROSE)


def has_words(text: str) -> bool:
    """Whether there is a word in it at all."""
    return _WORD.search(text) is not None


def numbers(text: str) -> list[str]:
    """The words with a digit in them, in order."""
    folded = _folded(text)
    return [] if is_prose(folded) else [w for w in _words(folded) if _DIGIT.search(w)]


def exact(text: str) -> tuple[str, ...]:
    """What must be equal in order for two texts to ask the same: numbers, signs, and the variables beside them.

    A sign is any symbol of Unicode (`+`, `<`, `=`, a tick, an emoji), and any other mark that stands at a number, a
    single letter or a sign: the minus of `3 - 5`, the `#` of `C#`, the bracket of `f(2)`. A hyphen, a bracket or
    an asterisk among words is typography.
    """
    return tuple(token for token, counts in _tokens(_folded(text)) if counts)


def marked_words(text: str) -> list[str]:
    """`words`, each with the signs that follow it (those before the first word with that one)."""
    folded = _folded(text)
    found: list[str] = []
    before = ""
    for token, counts in _tokens(folded):
        inside = _WORD.findall(token)
        if inside:
            # A decimal is two words, and its point is a sign.
            parts = _INSIDE_NUMBER.findall(token)
            # A mark of a script without spaces is a word to itself, and no letter.
            found += parts if len(parts) == len(inside) else inside
            found[-len(inside)] = before + found[-len(inside)]
            before = ""
        elif counts and found:
            found[-1] += token
        elif counts:
            before += token
    return found or _words(folded)


def _tokens(folded: str) -> list[tuple[str, bool]]:
    """Words, numbers and marks in order, and whether each must be equal for the text to ask the same."""
    if is_prose(folded) or not _MAYBE_EXACT.search(folded):
        return []
    tokens = _TOKEN.findall(folded)
    kinds = ["", *(_kind(token) for _, token in tokens), ""]
    spaced = [*(bool(space) for space, _ in tokens), True]
    return [(t, _counts(t, kinds[n : n + 3], spaced[n], spaced[n + 1])) for n, (_, t) in enumerate(tokens)]


def _counts(token: str, kinds: list[str], space_before: bool, space_after: bool) -> bool:
    before, kind, after = kinds
    if kind == "mark":
        # `- a big one` is a dash; a mark counts that touches a letter, or has something to operate on at both sides.
        touching = ((not space_before) and before == "letter") or ((not space_after) and after == "letter")
        beside = {before, after}
        return touching or bool(beside & {"number", "symbol"}) or beside <= {"letter", "mark"}
    if kind == "letter":
        touching = ((not space_before) and before == "mark") or ((not space_after) and after == "mark")
        return touching or "symbol" in (before, after)
    # A factorial is no exclamation: `5!`, `n!`.
    return kind in ("number", "symbol") or (token == "!" and before in ("number", "letter"))


@functools.lru_cache(maxsize=1 << 14)
def _kind(token: str) -> str:
    if _WORD.match(token):
        if any(c.isdigit() for c in token):
            return "number"
        return "letter" if len(token) == 1 and not _UNSPACED_WORD.match(token) else "word"
    if unicodedata.category(token)[0] == "S":
        return "symbol"
    return "sentence" if token in _OF_SENTENCES else "mark"


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    # `10²` is not `102`: NFKC makes raised and lowered digits plain ones.
    text = _RAISED.sub(r"^\g<0>", text)
    text = _LOWERED.sub(r"_\g<0>", text)
    # NFKC first: full-width letters and ligatures become the plain ones that casefold knows.
    return unicodedata.normalize("NFKC", text).casefold()


def runs(found: Sequence[str], n: int) -> Iterator[str]:
    """All runs of n words."""
    return (" ".join(found[i : i + n]) for i in range(len(found) - n + 1))


def shingles(found: Sequence[str]) -> frozenset[str]:
    """All runs of 3 words; the whole text where it is shorter."""
    return frozenset(runs(found, SHINGLE)) or frozenset([" ".join(found)])


def shared_runs(texts: Sequence[str]) -> frozenset[str]:
    """Runs of 3 words that most texts of a source have: an instruction, a template. Empty where there are none.

    Of a long source 64 texts are looked at, evenly spread over it.
    """
    if len(texts) < _FEWEST:
        return frozenset()
    looked_at = [texts[n * len(texts) // _SAMPLE] for n in range(_SAMPLE)] if len(texts) > _SAMPLE else texts
    counts = Counter(run for text in looked_at for run in set(runs(words(text), SHINGLE)))
    return frozenset(run for run, n in counts.items() if n > len(looked_at) / 2)


def own_pieces(found: Sequence[str], shared: frozenset[str]) -> list[slice]:
    """Where the words stand that are this text's own, piece by piece: those that no shared run covers."""
    if not shared:
        return [slice(0, len(found))] if found else []
    covered = [False] * len(found)
    for start, run in enumerate(runs(found, SHINGLE)):
        if run in shared:
            covered[start : start + SHINGLE] = [True] * SHINGLE
    # A piece begins where its first word is not covered and the word before is.
    edges = [n for n in range(len(found) + 1) if [True, *covered, True][n] != [True, *covered, True][n + 1]]
    return [slice(*edge) for edge in zip(edges[::2], edges[1::2], strict=True)]
