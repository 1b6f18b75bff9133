"""Search a corpus and read its documents: think, search, read, confidence, answer (arXiv:2507.16727).

    <think>..</think> <search>query</search>    ->  <results>1 title | abstract ..</results>
    <think>..</think> <read>1</read>            ->  <document>..</document>
    <think>..</think> <confidence>7</confidence> <answer>..</answer>     ends the completion

What is no such action gets one line that says so, and is a turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.prompts import PromptRow
from stages.core.config import option
from stages.core.errors import UsageError
from stages.core.resources import Kind
from stages.core.runs.folder import RunFolder
from stages.core.stage import Resources
from stages.corpus.index import Index
from stages.corpus.search_turns import ANSWER, READ, SEARCH, Searcher, action_in
from stages.rollout.environments.base import Action, Environment, EnvironmentPlugin, Observation

INDEX: Kind[Index] = Kind("rollout.corpus")
"""An opened corpus, by its run's fingerprint."""


@dataclass(frozen=True)
class SearchSettings:
    """[rollout.environment.options] of the environment `search`."""

    # What is in it is in the run's key; where it lies is not.
    corpus: str = option("", "Run folder of a corpus: cosmo prepare corpus:FILE.jsonl", affects=False)
    top_k: int = option(3, "Hits that a search lists", low=1)


class Search(Environment):
    """A corpus that answers a completion's searches."""

    stop = [f"</{name}>" for name in (SEARCH, READ, ANSWER)]  # noqa: RUF012  # never changed

    def __init__(self, index: Index, top_k: int) -> None:
        self._searcher = Searcher(index, top_k)

    def step(self, row: PromptRow, action: Action) -> Observation:
        """Hits, a document, one line about what is neither, or the end."""
        asked = action_in(action.text)
        if asked is not None and asked[0] == ANSWER:
            return Observation(done=True)
        earlier = (action_in(turn.text) for turn in action.earlier)
        text, tag = self._searcher.answer(asked, [words for kind, words in filter(None, earlier) if kind == SEARCH])
        return Observation(text, tag=tag)


class SearchPlugin(EnvironmentPlugin):
    """Opens a corpus once a process."""

    version = 1
    settings = SearchSettings

    def identity(self, settings: SearchSettings) -> dict[str, Any]:
        """The corpus by its content."""
        return {"corpus": _corpus(settings).fingerprint}

    def open(self, settings: SearchSettings, resources: Resources) -> Environment:
        """The documents and their index, read once a process."""
        folder = _corpus(settings)
        index = resources.peek(INDEX, folder.fingerprint)
        if index is None:
            index = Index.read(folder)
            resources.put(INDEX, folder.fingerprint, index)
        return Search(index, settings.top_k)


def _corpus(settings: SearchSettings) -> RunFolder:
    if not settings.corpus:
        raise UsageError(
            "the environment search was given no corpus",
            "cosmo prepare corpus:FILE.jsonl, and --set environment.options.corpus=RUN",
        )
    return RunFolder.open(settings.corpus)


PLUGIN = SearchPlugin()
