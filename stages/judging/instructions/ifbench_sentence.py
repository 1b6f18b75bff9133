"""IFBench's sentences: alliteration, a keyword's place, growing lengths (arXiv:2507.02833)."""

from __future__ import annotations

import re
from itertools import groupby, pairwise

from stages.judging.instructions.base import Checks, Count
from stages.judging.instructions.sentences import sentences
from stages.judging.instructions.text import BLANK_OR_MARK, bare


def alliteration_increment(completion: str) -> bool:
    """Each sentence has more alliterating words than the one before it. Trap: all runs add up, not the longest."""
    counts = [_alliterating(sentence) for sentence in sentences(completion)]
    return all(before < after for before, after in pairwise(counts))


def _alliterating(sentence: str) -> int:
    """How many words stand next to one with the same first letter."""
    words = (word.lstrip(BLANK_OR_MARK) for word in sentence.lower().split())
    runs = [len(list(run)) for _, run in groupby(word[0] for word in words if word)]
    return sum(length for length in runs if length > 1)


def keyword(completion: str, word: str, N: Count) -> bool:
    """A keyword, as a whole word, in the Nth sentence."""
    found = sentences(completion)
    return len(found) >= N and re.search(rf"\b{re.escape(word)}\b", found[N - 1], re.IGNORECASE) is not None


def increment(completion: str, small_n: Count) -> bool:
    """Each sentence has exactly so many words more than the one before it."""
    lengths = [len(bare(sentence).split()) for sentence in sentences(completion)]
    return all(after - before == small_n for before, after in pairwise(lengths))


PLUGIN = Checks(
    version=1,
    checks={
        "sentence:alliteration_increment": alliteration_increment,
        "sentence:keyword": keyword,
        "sentence:increment": increment,
    },
)
