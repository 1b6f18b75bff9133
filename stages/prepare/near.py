"""Words compared: near-duplicates among rows, and training rows that repeat a test set.

Both work on a record's `text`, folded (NFKC, case, punctuation); characters of scripts written without spaces
count as words. Nothing here looks at pixels: pictures are equal when their bytes are.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stages.prepare.datasets.base import Record

SHINGLE = 3
GRAM = 13
"""Words in a row that two texts must share to be contaminated: GPT-3, arXiv:2005.14165, appendix C."""
BOILERPLATE = 10
"""A run of words in more test rows than this is a template, not a leak: same appendix."""
_PERMUTATIONS = 128
_FEW = 64
_PROPOSE = 0.9
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def words(text: str) -> list[str]:
    """The text's words, folded."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _runs(found: list[str], n: int) -> Iterator[str]:
    return (" ".join(found[i : i + n]) for i in range(len(found) - n + 1))


def shingles(found: list[str]) -> frozenset[str]:
    """All runs of 3 words; the whole text where it is shorter."""
    return frozenset(_runs(found, SHINGLE)) or frozenset([" ".join(found)])


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Shared over all shingles."""
    return len(a & b) / len(a | b)


def near_duplicates(records: Iterable[Record], threshold: float) -> dict[int, int]:
    """Position of each near-duplicate -> position of the earlier record it repeats.

    Only records with the same pictures and the same numbers are compared: another picture or another number
    makes another question. Records of split `test` are never dropped: a test set is measured whole.
    """
    groups: dict[tuple[str, ...], list[tuple[int, Record, list[str]]]] = {}
    for position, record in enumerate(records):
        if found := words(record.text):
            numbers = [w for w in found if any(c.isdigit() for c in w)]
            groups.setdefault((record.pictures, *numbers), []).append((position, record, found))
    repeats: dict[int, int] = {}
    for group in groups.values():
        if len(group) > 1:
            repeats.update(_within(group, threshold))
    return repeats


def _within(group: list[tuple[int, Record, list[str]]], threshold: float) -> Iterator[tuple[int, int]]:
    kept = (_Looked if len(group) > _FEW else _Compared)(threshold)
    for position, record, found in group:
        here = shingles(found)
        twin = kept.find(here)
        if twin is not None and record.split != "test":
            yield position, twin
        else:
            kept.add(position, here)


class _Compared:
    """Shingle sets that stayed, few enough to compare each new one with all of them."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._sets: dict[int, frozenset[str]] = {}

    def find(self, here: frozenset[str]) -> int | None:
        """The first kept set that is close enough."""
        return self._first(self._sets, here)

    def add(self, position: int, here: frozenset[str]) -> None:
        """Keep a set."""
        self._sets[position] = here

    def _first(self, positions: Iterable[int], here: frozenset[str]) -> int | None:
        return next((p for p in positions if jaccard(here, self._sets[p]) >= self._threshold), None)


class _Looked(_Compared):
    """The same for many: MinHash proposes and Jaccard decides; a twin may be missed, never made up."""

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        super().__init__(threshold)
        # Set against misses: what is proposed too much is compared, which costs time only.
        self._index = MinHashLSH(min(threshold, _PROPOSE), _PERMUTATIONS, weights=(0.1, 0.9))
        self._sketch: tuple[frozenset[str], Any] = (frozenset(), None)

    def find(self, here: frozenset[str]) -> int | None:
        """The earliest proposed set that is close enough."""
        return self._first(sorted(self._index.query(self._minhash(here))), here)

    def add(self, position: int, here: frozenset[str]) -> None:
        """Keep a set."""
        super().add(position, here)
        self._index.insert(position, self._minhash(here))

    def _minhash(self, here: frozenset[str]) -> Any:
        from datasketch import MinHash

        if self._sketch[0] is not here:
            sketch = MinHash(num_perm=_PERMUTATIONS)
            sketch.update_batch([s.encode() for s in here])
            self._sketch = (here, sketch)
        return self._sketch[1]


@dataclass(slots=True)
class Benchmark:
    """What training rows must not repeat."""

    keys: dict[str, str] = field(default_factory=dict)
    """Content key -> where it is, for people."""
    texts: dict[tuple[str, str], str] = field(default_factory=dict)
    """(whole folded text, pictures) -> where."""
    grams: dict[int, str] = field(default_factory=dict)
    """Digest of 13 words in a row -> where."""

    def find(self, record: Record) -> str | None:
        """Why a training record is contaminated, in words for its rejected row; None when it is clean.

        The same content; or the same whole text with the same pictures; or 13 words in a row from a test
        row's text, whatever the pictures.
        """
        if record.key in self.keys:
            return f"the same as {self.keys[record.key]}"
        found = words(record.text)
        if not found:
            return None
        where = self.texts.get((" ".join(found), record.pictures))
        if where is not None:
            return f"the same words as {where}"
        for gram in _runs(found, GRAM):
            if (where := self.grams.get(_number(gram))) is not None:
                return f"{GRAM} words in a row as in {where}: {gram!r}"
        return None


def benchmark_of(records: Iterable[tuple[str, Record]]) -> Benchmark:
    """Index test records, given with the words that say where each is."""
    found, held = Benchmark(), Counter[int]()
    for where, record in records:
        found.keys.setdefault(record.key, where)
        text = words(record.text)
        if text:
            found.texts.setdefault((" ".join(text), record.pictures), where)
        for gram in {_number(g) for g in _runs(text, GRAM)}:
            held[gram] += 1
            found.grams.setdefault(gram, where)
    for gram, n in held.items():
        if n > BOILERPLATE:
            del found.grams[gram]
    return found


def _number(gram: str) -> int:
    return int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "big")
