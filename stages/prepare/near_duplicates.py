"""Words compared: near-duplicates among rows, and training rows that repeat a test set.

Both work on a record's `text` (`stages/prepare/words.py`), and on what is the row's own in it: an instruction that
most rows of a source share says nothing of one of them. Nothing here looks at pixels: images are equal when their
bytes are.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.prepare.datasets.base import Record
from stages.prepare.words import (
    SHINGLE,
    exact,
    has_words,
    is_prose,
    marked_words,
    numbers,
    own_pieces,
    runs,
    shared_runs,
    shingles,
    words,
)

GRAM = 13
"""Words in a row that two texts must share to be contaminated: GPT-3, arXiv:2005.14165, appendix C."""
BOILERPLATE = 10
"""A run of words in more test rows than this is a template, not a leak: same appendix."""
# Slots of the count table a text. Two shingles in one slot make the order a little worse, never the result wrong.
_COUNTS = 8
_INEXACT = 1e-6
_ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
"""Odd numbers with no pattern: what a word is multiplied by for its place in a shingle."""
_RARITY_BITS = 20
_AT_A_TIME = 4096
"""Texts as arrays at a time."""
_Hashes = np.ndarray[Any, np.dtype[np.uint64]]


def jaccard(a: frozenset[Any], b: frozenset[Any]) -> float:
    """Shared over all shingles."""
    return len(a & b) / len(a | b)


def shared_by_most(sources: Iterable[Sequence[Record]]) -> frozenset[str]:
    """The runs of 3 words that most rows of one of the sources share."""
    texts = ([r.text for r in records if r.text] for records in sources)
    return frozenset[str]().union(*map(shared_runs, texts))


def near_duplicates(
    records: Iterable[Record], threshold: float, shared: frozenset[str] = frozenset()
) -> dict[int, int]:
    """Position of each near-duplicate -> position of the earlier record it repeats.

    Only records with the same images, numbers and signs are compared: another one makes another question. So does
    another reference. The whole texts have to be alike, and so does what is left of them without `shared` runs.
    Records of split `test` are never dropped: a test set is measured whole.
    """
    groups: dict[tuple[str, ...], list[tuple[int, Record]]] = {}
    prose: set[int] = set()
    for position, record in enumerate(records):
        if is_prose(record.text):
            # Neither numbers nor signs.
            prose.add(position)
        if has_words(record.text):
            # `Tom has 3 apples` and `Tom has 5 apples` share nearly all shingles and have different answers.
            found = () if position in prose else numbers(record.text)
            groups.setdefault((record.images, *found), []).append((position, record))
    repeats: dict[int, int] = {}
    for coarse in groups.values():
        # Signs take longer to read than digits, and most rows are alone by their numbers.
        for group in _by_signs(coarse, prose) if len(coarse) > 1 else ():
            if len(group) > 1:
                repeats.update(_within(group, threshold, shared))
    return repeats


def likeness(one: Record, other: Record, shared: frozenset[str]) -> str:
    """How near two records are, in words for the one that is left out."""
    here, there = words(one.text), words(other.text)
    said = f"{100 * jaccard(shingles(here), shingles(there)):.0f} % of the runs of {SHINGLE} words are the same"
    own = [_own(one.text, shared), _own(other.text, shared)]
    if all(own) and own != [here, there]:
        said += f", {100 * jaccard(*map(shingles, own)):.0f} % where not most rows share them"
    return said


def _by_signs(group: list[tuple[int, Record]], prose: set[int]) -> Iterable[list[tuple[int, Record]]]:
    groups: dict[tuple[str, ...], list[tuple[int, Record]]] = {}
    for position, record in group:
        groups.setdefault(() if position in prose else exact(record.text), []).append((position, record))
    return groups.values()


def _own(text: str, shared: frozenset[str]) -> list[str]:
    found = words(text)
    return [word for piece in own_pieces(found, shared) for word in found[piece]]


def _alike(one: Record, other: Record, threshold: float, shared: frozenset[str]) -> bool:
    """Whether two records of alike whole texts also ask the same."""
    if not _same_reference(one.answer, other.answer):
        return False
    return not shared or jaccard(*(shingles(_own(r.text, shared)) for r in (one, other))) >= threshold


def _same_reference(one: str | None, other: str | None) -> bool:
    """Whether two references may be one; a row without any says nothing against it."""
    if one is None or other is None or one == other:
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        pass
    here, there = words(one), words(other)
    # Of a long reference the words are compared as the prompt's are; a short one is another by a single word.
    return exact(one) == exact(other) and jaccard(shingles(here), shingles(there)) >= _SAME_REFERENCE


_SAME_REFERENCE = 0.9


def _within(group: list[tuple[int, Record]], threshold: float, shared: frozenset[str]) -> Iterator[tuple[int, int]]:
    texts = _Shingled((words(record.text) for _, record in group), len(group), threshold)
    kept: dict[int, list[int]] = {}
    for number, (position, record) in enumerate(group):
        # Most texts have no rare shingle that any other has: nothing proposes them, and they propose nothing.
        prefix = texts.prefix(number)
        if not prefix:
            continue
        proposed = sorted({k for shingle in prefix for k in kept.get(shingle, ())})
        near = texts.closer(number, proposed)
        twin = next((k for k in near if _alike(group[k][1], record, threshold, shared)), None)
        stays = record.split == "test"
        if twin is None or stays:
            for shingle in prefix:
                kept.setdefault(shingle, []).append(number)
        if twin is not None and not stays:
            yield position, group[twin][0]


class _Shingled:
    """Texts as sets of shingles, each with the rarest of its own that another text has among its rarest.

    Two texts of Jaccard t share at least t x n of the n shingles of each. So their n - ceil(t x n) + 1 rarest, by one
    order for all, have one in common: prefix filtering (Bayardo, Ma, Srikant, WWW 2007). What that proposes is first
    compared by one number a text (Sandes, Teodoro, Melo, arXiv:1711.07295). Nothing is missed.
    """

    def __init__(self, texts: Iterable[list[str]], count: int, threshold: float) -> None:
        self._threshold = threshold
        found, owners = _shingle_hashes(texts, count)
        self._sizes = np.bincount(owners)
        self._ends = np.cumsum(self._sizes)
        self._starts = self._ends - self._sizes
        # Each bit the parity of the shingles that fall on it.
        self._bitmaps = np.bitwise_xor.reduceat(np.uint64(1) << (found & np.uint64(63)), self._starts)
        self._found = found
        self._prefixes = self._rare_and_shared(owners)

    def prefix(self, number: int) -> list[int]:
        """The rarest shingles of a text that could propose another one."""
        return self._prefixes.get(number, [])

    def closer(self, number: int, others: list[int]) -> Iterator[int]:
        """Those of the other texts that are close enough, in their order."""
        if not others:
            return
        near = np.array(others)
        # Each bit that differs is a shingle that only one of the two has.
        # J >= t means that of a + b shingles at most (a + b)(1 - t) / (1 + t) are on one side only.
        apart = (self._sizes[near] + self._sizes[number]) * (1 - self._threshold) / (1 + self._threshold)
        near = near[np.bitwise_count(self._bitmaps[near] ^ self._bitmaps[number]) <= apart + _INEXACT]
        here = self._set(number)
        for k in near.tolist():
            if jaccard(here, self._set(k)) >= self._threshold:
                yield k

    def _set(self, number: int) -> frozenset[int]:
        return frozenset(self._found[self._starts[number] : self._ends[number]].tolist())

    def _rare_and_shared(self, owners: np.ndarray[Any, Any]) -> dict[int, list[int]]:
        found, slots = self._found, np.uint64(_COUNTS * len(self._sizes))
        edges = [*self._starts[::_AT_A_TIME].tolist(), len(found)]
        parts = [slice(*edge) for edge in itertools.pairwise(edges)]
        counts = np.zeros(int(slots), np.int64)
        for part in parts:
            np.add.at(counts, (found[part] % slots).astype(np.int64), 1)
        counts = np.minimum(counts, (1 << _RARITY_BITS) - 1)
        # A little less than t x n where floats are not exact: one shingle more is never wrong.
        lengths = self._sizes - np.ceil(self._threshold * self._sizes - _INEXACT).astype(np.int64) + 1
        kept = []
        for part in parts:
            owner = owners[part]
            rarity = counts[(found[part] % slots).astype(np.int64)]
            # By text, then the rarest first. Stable, and shingles are in order already: one order for all texts.
            order = part.start + np.argsort(owner << _RARITY_BITS | rarity, kind="stable")
            kept.append(order[np.arange(part.start, part.stop) - self._starts[owner] < lengths[owner]])
        order = np.concatenate(kept)
        _, which, times = np.unique(found[order], return_inverse=True, return_counts=True)
        order = order[times[which] > 1]
        prefixes: dict[int, list[int]] = {}
        for owner, shingle in zip(owners[order].tolist(), found[order].tolist(), strict=True):
            prefixes.setdefault(owner, []).append(shingle)
        return prefixes


def _shingle_hashes(texts: Iterable[list[str]], count: int) -> tuple[_Hashes, np.ndarray[Any, Any]]:
    """The different shingles of each of `count` texts, text by text, as numbers, and whose each one is.

    Python seeds `hash` of strings anew in each process: the numbers order shingles here and are stored nowhere.
    """
    # One number for both, because it sorts in a tenth of the time; more than 40 bits are left of a shingle's number.
    bits = np.uint64(64 - count.bit_length())
    rest, parts, first = iter(texts), [np.zeros(0, np.uint64)], 0
    # Some at a time: what lies between a word and its shingles' numbers takes several times their room.
    while some := list(itertools.islice(rest, _AT_A_TIME)):
        parts.append(_numbered(some, first, bits))
        first += len(some)
    both = np.concatenate(parts)
    return both & (np.uint64(1) << bits) - np.uint64(1), (both >> bits).view(np.int64)


def _numbered(texts: list[list[str]], first: int, bits: np.uint64) -> _Hashes:
    """The different shingles of texts as one number each, the text's own before the shingle's, in order."""
    flat, lengths = array("q"), []
    for text in texts:
        # A text of one or two words is one shingle: nothing stands for the words it lacks.
        flat.extend(map(hash, text))
        flat.extend([0] * (SHINGLE - len(text)))
        lengths.append(max(len(text), SHINGLE))
    places = np.frombuffer(flat, np.uint64)
    owners = np.repeat(np.arange(first, first + len(texts)), lengths)
    # Runs that begin in one text and end in the next are none.
    whole = np.flatnonzero(owners[: 1 - SHINGLE] == owners[SHINGLE - 1 :])
    mixed = places[whole] * _ODD[0] + places[whole + 1] * _ODD[1] + places[whole + 2] * _ODD[2]
    mixed ^= mixed >> np.uint64(29)
    both = np.sort(owners[whole].astype(np.uint64) << bits | mixed >> np.uint64(64) - bits)
    return both[np.append(True, both[1:] != both[:-1])]


@dataclass(slots=True)
class Benchmark:
    """What training rows must not repeat."""

    shared: frozenset[str] = frozenset()
    """Runs of 3 words that most rows of a source share: no row's own."""
    keys: dict[str, str] = field(default_factory=dict)
    """Content key -> where it is, for people."""
    texts: dict[tuple[str, str], str] = field(default_factory=dict)
    """(images, whole folded text with its signs) -> where."""
    grams: dict[int, str] = field(default_factory=dict)
    """Digest of 13 words in a row -> where."""

    def find(self, record: Record) -> str | None:
        """Why a training record is contaminated, in words for its rejected row; None when it is clean.

        The same content; or the same whole text with the same images; or 13 words in a row of a test row's own text,
        whatever the images.
        """
        if record.key in self.keys:
            return f"the same as {self.keys[record.key]}"
        found = words(record.text)
        if not found:
            return None
        marked = marked_words(record.text)
        # A text of fewer than 13 words has no run to be found by. So short a one may be common (`What is shown?`),
        # which is why its images have to be the same as well.
        where = self.texts.get((record.images, " ".join(marked)))
        if where is not None:
            return f"the same words as {where}"
        pieces = [marked[piece] for piece in own_pieces(found, self.shared)]
        for gram in _grams(pieces):
            if (where := self.grams.get(_gram_hash(gram))) is not None:
                return f"{GRAM} words in a row as in {where}: {gram!r}"
        return None


def benchmark_of(records: Iterable[tuple[str, Record]], shared: frozenset[str] = frozenset()) -> Benchmark:
    """Index test records, given with the words that say where each is; what is `shared` is no row's own."""
    found, texts_with = Benchmark(shared), Counter[int]()
    for where, record in records:
        found.keys.setdefault(record.key, where)
        text, marked = words(record.text), marked_words(record.text)
        pieces = [marked[piece] for piece in own_pieces(text, shared)]
        if text:
            found.texts.setdefault((record.images, " ".join(marked)), where)
        for gram in {_gram_hash(g) for g in _grams(pieces)}:
            texts_with[gram] += 1
            found.grams.setdefault(gram, where)
    # Only after all rows are in is it known what a template is.
    for gram, n in texts_with.items():
        if n > BOILERPLATE:
            del found.grams[gram]
    return found


def _grams(pieces: list[list[str]]) -> Iterator[str]:
    return (gram for piece in pieces for gram in runs(piece, GRAM))


def _gram_hash(gram: str) -> int:
    return int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "big")
