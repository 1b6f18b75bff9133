"""The groups of a library of runs, one at a time: their images, their tokens, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmo_cli.view.cards import cards, image_of
from cosmo_cli.view.choices import guided_choices
from cosmo_cli.view.index import Indexes, RunIndex
from cosmo_cli.view.library import Entry, Library
from cosmo_cli.view.tokens import token_strip
from cosmo_cli.view.words import Words

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder

GROUPS = ("prompts", "rollouts", "scored")
"""Tables whose rows are shown as cards."""


class Rows:
    """Groups by their run's key and their position in it."""

    def __init__(self, library: Library, words: Words) -> None:
        self.library, self.words = library, words
        self._indexes = Indexes()

    def index(self, key: str, folder: RunFolder) -> RunIndex:
        """The index of a run of groups, as far as its shards have landed. InputError for a damaged one."""
        return self._indexes.of(key, folder)

    def opened(self, key: str, tables: tuple[str, ...] = ()) -> tuple[Entry, RunFolder] | None:
        """The run of that key, where its rows are of one of these tables; None for any other."""
        entry, folder = self.library.entry(key), self.library.open(key)
        if entry is None or folder is None or (tables and entry.table not in tables):
            return None
        return entry, folder

    def _at(self, key: str, row: int) -> tuple[RunFolder, tuple[Path, list[int]]] | None:
        """Where the group at a position lies: its run, its shard and its row there."""
        if (opened := self.opened(key, GROUPS)) is None:
            return None
        index = self.index(key, opened[1])
        return (opened[1], index.rows([row])[0]) if 0 <= row < len(index) else None

    def image(self, key: str, row: int, number: int) -> Any:
        """An image of the group at a position, as it is stored; None where there is none."""
        if (found := self._at(key, row)) is None:
            return None
        return image_of(found[0], found[1], number)

    def tokens(self, key: str, row: int, completion: int) -> dict[str, Any] | None:
        """The tokens of a completion with their log-probs; None where there is none."""
        if (found := self._at(key, row)) is None:
            return None
        return token_strip(found[0], self.library, found[1], completion)

    def choices(self, key: str, row: int, completion: int) -> list[dict[str, Any]] | None:
        """What was chosen among while a guided completion was written; None where there is no such group."""
        if (found := self._at(key, row)) is None:
            return None
        return guided_choices(found[0], self.library, next(cards(found[0], [found[1]])).id, completion)

    def say(self, key: str, row: int, completion: int, verdict: str, why: str) -> list[list[str]] | None:
        """Keep this reader's word; what all said of the completion by now, or None where there is none."""
        if (found := self._at(key, row)) is None:
            return None
        card = next(cards(found[0], [found[1]]))
        told = next((c for c in card.completions if c.index == completion and c.key), None)
        if told is None:
            return None
        self.words.say(ident=card.id, completion=told.key, verdict=verdict, why=why, run=key, index=completion)
        return [[w.who, w.verdict, w.why] for w in self.words.latest().get((card.id, told.key), [])]
