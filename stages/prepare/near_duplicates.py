"""Words compared: near-duplicates among rows, and training rows that repeat a test set.

Both work on a record's `text`, folded (NFKC, case, punctuation); characters of scripts written without spaces
count as words. Nothing here looks at pixels: images are equal when their bytes are.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.prepare.datasets.base import Record

SHINGLE = 3
GRAM = 13
"""Words in a row that two texts must share to be contaminated: GPT-3, arXiv:2005.14165, appendix C."""
BOILERPLATE = 10
"""A run of words in more test rows than this is a template, not a leak: same appendix."""
# Slots of the count table a text. Two shingles in one slot make the order a little worse, never the result wrong.
_COUNTS = 8
_INEXACT = 1e-6
# Thai and Lao, Burmese, kana, Chinese characters with extension A and the compatibility block.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def words(text: str) -> list[str]:
    """The text's words, folded."""
    # NFKC first: full-width letters and ligatures become the plain ones that casefold knows.
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _runs(found: list[str], n: int) -> Iterator[str]:
    return (" ".join(found[i : i + n]) for i in range(len(found) - n + 1))


def shingles(found: list[str]) -> frozenset[str]:
    """All runs of 3 words; the whole text where it is shorter."""
    return frozenset(_runs(found, SHINGLE)) or frozenset([" ".join(found)])


def jaccard(a: frozenset[Any], b: frozenset[Any]) -> float:
    """Shared over all shingles."""
    return len(a & b) / len(a | b)


def near_duplicates(records: Iterable[Record], threshold: float) -> dict[int, int]:
    """Position of each near-duplicate -> position of the earlier record it repeats.

    Only records with the same images and the same numbers are compared: another image or another number
    makes another question. Records of split `test` are never dropped: a test set is measured whole.
    """
    groups: dict[tuple[str, ...], list[tuple[int, Record]]] = {}
    for position, record in enumerate(records):
        if found := words(record.text):
            # `Tom has 3 apples` and `Tom has 5 apples` share nearly all shingles and have different answers.
            numbers = [w for w in found if any(c.isdigit() for c in w)]
            groups.setdefault((record.images, *numbers), []).append((position, record))
    repeats: dict[int, int] = {}
    for group in groups.values():
        if len(group) > 1:
            repeats.update(_within(group, threshold))
    return repeats


def _within(group: list[tuple[int, Record]], threshold: float) -> Iterator[tuple[int, int]]:
    kept = _KeptTexts(threshold, _Rarity((_shingle_hashes(record) for _, record in group), len(group)), len(group))
    for position, record in group:
        stays = record.split == "test"
        twin = kept.find_or_add(position, _shingle_hashes(record), stays)
        if twin is not None and not stays:
            yield position, twin


def _shingle_hashes(record: Record) -> frozenset[int]:
    """The record's shingles as 64-bit numbers: good within one process, and a fifth of the memory."""
    # Python seeds `hash` of strings anew in each process: the numbers order shingles here and are stored nowhere.
    return frozenset(map(hash, shingles(words(record.text))))


class _Rarity:
    """About how many texts have a shingle: so many counts a text, shared by the shingles that fall together."""

    def __init__(self, texts: Iterable[frozenset[int]], number: int) -> None:
        # Zeros: eight bytes for each signed 64-bit count. A hash may be negative; Python's `%` gives an index all the
        # same.
        self._counts = array("q", bytes(8 * _COUNTS * number))
        for text in texts:
            for shingle in text:
                self._counts[shingle % len(self._counts)] += 1

    def rarest_first(self, text: frozenset[int]) -> list[int]:
        """Its shingles, in an order that is the same for all texts."""
        return sorted(text, key=lambda shingle: (self._counts[shingle % len(self._counts)], shingle))


class _KeptTexts:
    """Texts that stayed, found again by their rarest shingles.

    Two texts of Jaccard t share at least t x n of the n shingles of each. So their n - ceil(t x n) + 1 rarest, by one
    order for all, have one in common: prefix filtering (Bayardo, Ma, Srikant, WWW 2007). What that proposes is first
    compared by one number a text (Sandes, Teodoro, Melo, arXiv:1711.07295). Nothing is missed.
    """

    def __init__(self, threshold: float, rarity: _Rarity, most: int) -> None:
        self._threshold, self._rarity = threshold, rarity
        self._positions: list[int] = []
        self._texts: list[array[int]] = []
        self._bitmaps, self._sizes = np.zeros(most, np.uint64), np.zeros(most, np.int64)
        self._index: dict[int, array[int]] = {}

    def find_or_add(self, position: int, here: frozenset[int], stays: bool) -> int | None:
        """The earliest kept text that is close enough; with none, or where it stays all the same, this one is kept."""
        prefix, bitmap = self._prefix(here), _bitmap(here)
        twin = self._find(here, prefix, bitmap)
        if twin is None or stays:
            number = len(self._texts)
            self._positions.append(position)
            self._texts.append(array("q", here))
            self._bitmaps[number], self._sizes[number] = bitmap, len(here)
            for shingle in prefix:
                self._index.setdefault(shingle, array("q")).append(number)
        return twin

    def _find(self, here: frozenset[int], prefix: list[int], bitmap: np.uint64) -> int | None:
        proposed = [self._index[shingle] for shingle in prefix if shingle in self._index]
        if not proposed:
            return None
        # Sorted, and numbers grow as texts are kept: the earliest text comes first. Concatenating copies, so that no
        # view is left alive: an `array` that is exported as a buffer can't grow.
        near = np.unique(np.concatenate([np.frombuffer(found, np.int64) for found in proposed]))
        # Each bit that differs is a shingle that only one of the two has.
        # J >= t means that of a + b shingles at most (a + b)(1 - t) / (1 + t) are on one side only.
        apart = (self._sizes[near] + len(here)) * (1 - self._threshold) / (1 + self._threshold)
        near = near[np.bitwise_count(self._bitmaps[near] ^ bitmap) <= apart + _INEXACT]
        kept = (k for k in near.tolist() if jaccard(here, frozenset(self._texts[k])) >= self._threshold)
        return next((self._positions[k] for k in kept), None)

    def _prefix(self, here: frozenset[int]) -> list[int]:
        # A little less than t x n where floats are not exact: one shingle more is never wrong.
        shared = math.ceil(self._threshold * len(here) - _INEXACT)
        return self._rarity.rarest_first(here)[: len(here) - shared + 1]


def _bitmap(text: frozenset[int]) -> np.uint64:
    """64 bits, each the parity of the shingles that fall on it."""
    bitmap = 0
    for shingle in text:
        bitmap ^= 1 << (shingle & 63)
    return np.uint64(bitmap)


@dataclass(slots=True)
class Benchmark:
    """What training rows must not repeat."""

    keys: dict[str, str] = field(default_factory=dict)
    """Content key -> where it is, for people."""
    texts: dict[tuple[str, str], str] = field(default_factory=dict)
    """(whole folded text, images) -> where."""
    grams: dict[int, str] = field(default_factory=dict)
    """Digest of 13 words in a row -> where."""

    def find(self, record: Record) -> str | None:
        """Why a training record is contaminated, in words for its rejected row; None when it is clean.

        The same content; or the same whole text with the same images; or 13 words in a row from a test
        row's text, whatever the images.
        """
        if record.key in self.keys:
            return f"the same as {self.keys[record.key]}"
        found = words(record.text)
        if not found:
            return None
        # A text of fewer than 13 words has no run to be found by. So short a one may be common (`What is shown?`),
        # which is why its images have to be the same as well.
        where = self.texts.get((" ".join(found), record.images))
        if where is not None:
            return f"the same words as {where}"
        for gram in _runs(found, GRAM):
            if (where := self.grams.get(_gram_hash(gram))) is not None:
                return f"{GRAM} words in a row as in {where}: {gram!r}"
        return None


def benchmark_of(records: Iterable[tuple[str, Record]]) -> Benchmark:
    """Index test records, given with the words that say where each is."""
    found, texts_with = Benchmark(), Counter[int]()
    for where, record in records:
        found.keys.setdefault(record.key, where)
        text = words(record.text)
        if text:
            found.texts.setdefault((" ".join(text), record.images), where)
        for gram in {_gram_hash(g) for g in _runs(text, GRAM)}:
            texts_with[gram] += 1
            found.grams.setdefault(gram, where)
    # Only after all rows are in is it known what a template is.
    for gram, n in texts_with.items():
        if n > BOILERPLATE:
            del found.grams[gram]
    return found


def _gram_hash(gram: str) -> int:
    return int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "big")
