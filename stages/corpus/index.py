"""BM25 over a corpus's documents by bm25s: built once, kept in the run folder, the same order of hits everywhere.

Lucene's form of BM25, k1 1.5 and b 0.75, over lower-case words of title and text; no stop words, no stemming.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from schemas.prompts import DocumentRow
from schemas.tables import CORPUS
from stages.core.errors import InputError, UnavailableError
from stages.core.runs.folder import RunFolder

FOLDER = "index"
"""The index's folder in the run of a corpus."""
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """What is indexed and asked for."""
    return _WORD.findall(text.lower())


def library() -> Any:
    """The module bm25s; UnavailableError where it is not installed."""
    try:
        import bm25s
    except ImportError:
        raise UnavailableError("bm25s is not installed", "pip install 'cosmo-rl[search]'") from None
    return bm25s


class Index:
    """Documents and their index in memory."""

    def __init__(self, documents: list[DocumentRow], bm25: Any) -> None:
        self.documents, self._bm25 = documents, bm25

    @classmethod
    def of(cls, documents: Iterable[DocumentRow]) -> Index:
        """The index of these documents; InputError without a word to index."""
        kept = list(documents)
        tokens = [words(f"{d.title} {d.text}") for d in kept]
        if not any(tokens):
            raise InputError("the corpus has no document with a word", "give a file of {title, text}")
        bm25 = library().BM25()
        # Numbered in their order: the library's own numbers differ from process to process, and so would the files.
        numbers = {word: number for number, word in enumerate(sorted({w for own in tokens for w in own}))}
        bm25.index(([[numbers[w] for w in own] for own in tokens], numbers), show_progress=False)
        return cls(kept, bm25)

    @classmethod
    def read(cls, folder: RunFolder) -> Index:
        """The index of a corpus's run; InputError where it is none, or not whole."""
        if folder.table != CORPUS.name:
            raise InputError(f"{folder.where} holds {folder.table} and no corpus", "cosmo prepare corpus:FILE.jsonl")
        if not folder.complete:
            raise InputError(f"{folder.where} is incomplete", "finish it with the same cosmo prepare command")
        bm25 = library().BM25.load(str(folder.artifact(FOLDER)), mmap=True)
        return cls(list(folder.rows(CORPUS)), bm25)

    def save(self, path: Path) -> None:
        """Write the index without the documents."""
        self._bm25.save(str(path), show_progress=False)

    def search(self, query: str, most: int) -> list[int]:
        """The numbers of the best documents, best first; none that shares no word. Ties: the lower number."""
        known = [word for word in words(query) if word in self._bm25.vocab_dict]
        if not known:
            return []
        scores_D = self._bm25.get_scores(known)
        # Two documents of equal score would else come in an order of the library's.
        order_D = np.lexsort((np.arange(len(scores_D)), -scores_D))
        best: list[int] = [int(d) for d in order_D[:most] if scores_D[d] > 0]
        return best
