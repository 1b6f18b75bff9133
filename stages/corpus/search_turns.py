"""What a search lists and a reading shows, in words: deliberative search's actions (arXiv:2507.16727).

<search>query</search>     ->  1 title | abstract, one hit a line
<read>1</read>             ->  the document of that number among the last search's hits
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from stages.corpus.index import Index

SEARCH, READ, ANSWER = "search", "read", "answer"
RESULTS, DOCUMENT = "results", "document"
NOTHING, NO_SUCH, INVALID = "nothing found", "no such document", "no such action"
_ACTION = re.compile(r"<(search|read|answer)>((?:(?!</?(?:search|read|answer)>).)*)</\1>", re.S)


def action_in(text: str) -> tuple[str, str] | None:
    """(`search`, `read` or `answer`, what stands in the tag) of the last one in a turn; None without any."""
    found = _ACTION.findall(text)
    return (found[-1][0], found[-1][1].strip()) if found else None


@dataclass(frozen=True)
class Searcher:
    """A corpus that answers actions."""

    index: Index
    top_k: int

    def answer(self, action: tuple[str, str] | None, queries: Sequence[str]) -> tuple[str, str]:
        """(the words, the tag they stand in) for an action, after a completion's earlier queries."""
        if action is not None and action[0] == SEARCH:
            return self.results(action[1]), RESULTS
        if action is not None and action[0] == READ:
            return self.document(action[1], queries[-1] if queries else ""), DOCUMENT
        return INVALID, RESULTS

    def results(self, query: str) -> str:
        """The hits, one a line."""
        found = [self.index.documents[number] for number in self.index.search(query, self.top_k)]
        lines = [f"{n} {d.title} | {d.abstract}" if d.abstract else f"{n} {d.title}" for n, d in enumerate(found, 1)]
        return "\n".join(lines) or NOTHING

    def document(self, number: str, query: str) -> str:
        """The text of a hit of the query."""
        hits = self.index.search(query, self.top_k)
        if not number.isdecimal() or not 1 <= int(number) <= len(hits):
            return NO_SUCH
        return self.index.documents[hits[int(number) - 1]].text


def played(index: Index, top_k: int, turns: Sequence[str]) -> str:
    """A whole completion of these turns, with what the corpus answers between them, as a rollout writes it."""
    searcher = Searcher(index, top_k)
    queries: list[str] = []
    pieces: list[str] = []
    for turn in turns[:-1]:
        action = action_in(turn)
        words, tag = searcher.answer(action, queries)
        if action is not None and action[0] == SEARCH:
            queries.append(action[1])
        pieces += [turn, f"<{tag}>{words.replace('<', '&lt;')}</{tag}>"]
    return "".join([*pieces, *turns[-1:]])
