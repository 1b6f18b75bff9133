"""What a view's pages say: each a text of HTML, or None for what is not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmo_cli.view.about import STEPS, Committed, WhileTraining, about, all_working, trained_before
from cosmo_cli.view.cards import Card, cards
from cosmo_cli.view.index import RunIndex
from cosmo_cli.view.library import Entry, Library
from cosmo_cli.view.query import DIFFER, ONLY, ORDERS, PAGE_GROUPS, Query, positions, verdicts
from cosmo_cli.view.render import Renderer
from cosmo_cli.view.rows import GROUPS, Rows
from cosmo_cli.view.words import Words
from stages.core.storage.location import is_url
from stages.judging.words import WORTH

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder

COMPLETED, SCORED = ("rollouts", "scored"), "scored"
"""Tables whose rows have completions, and the one with grades."""
_SAMPLE = 2_000
"""Groups whose verdicts are offered as filters."""
_BESIDE = 200
"""Runs that are offered to stand beside, the newest."""
_TURN_STEPS = 200
"""Steps of a run that is kept: a turn has a few, and there may be hundreds of turns."""


class Pages:
    """The pages of a library of runs; addresses in them begin with `base`, which is `/TOKEN`."""

    def __init__(self, library: Library, base: str, words: Words) -> None:
        self.library = library
        self.rows = Rows(library, words)
        self._renderer = Renderer(base)
        self._committed: dict[tuple[Path, float], Committed] = {}

    def runs(self) -> str:
        """All runs, the newest first, with what they were made from."""
        facts = {"working": all_working(self.library), "trained": self.library.newest(STEPS) is not None}
        entries = list(self.library.entries().values())
        return self._renderer.page("runs", entries=entries, places=self.library.places, **facts)

    def newest_training(self) -> str | None:
        """The curves of the training run that was begun last, while one turn follows the other. None without any."""
        entry = self.library.newest(STEPS)
        folder = self.library.open(entry.key) if entry is not None else None
        return self._training(entry, folder, following=True) if entry is not None and folder is not None else None

    def run(self, key: str, asked: Mapping[str, str]) -> str | None:
        """A run: its rows as cards, its curves, or what it is. None for a key that is none."""
        if (opened := self.rows.opened(key)) is None:
            return None
        entry, folder = opened
        if entry.table in GROUPS:
            return self._groups(entry, folder, Query.parse(asked))
        if entry.table == STEPS:
            return self._training(entry, folder)
        has_report = self.report(key) is not None
        return self._renderer.page("run", **about(self.library, entry, folder), has_report=has_report)

    def row(self, key: str, asked: Mapping[str, str]) -> str | None:
        """One group on a page of its own, for a link that is sent; `id` names it."""
        if (opened := self.rows.opened(key, GROUPS)) is None:
            return None
        entry, folder = opened
        index = self.rows.index(key, folder)
        if (position := index.position(asked.get("id", ""))) is None:
            return None
        shown = self._cards(folder, index, [position], asked.get("beside", ""))
        return self._renderer.page("row", **about(self.library, entry, folder), **shown)

    def wrong(self, message: str, hint: str) -> str:
        """What can't be shown, and why."""
        return self._renderer.page("wrong", message=message, hint=hint)

    def report(self, key: str) -> Path | None:
        """The report.html that an evaluation has, or None."""
        if (opened := self.rows.opened(key)) is None or opened[0].stage != "eval":
            return None
        path = opened[1].artifact("report.html")
        return path if path.is_file() else None

    def _groups(self, entry: Entry, folder: RunFolder, query: Query) -> str:
        index = self.rows.index(entry.key, folder)
        beside = self.rows.opened(query.beside, COMPLETED)
        found = positions(index, query, self.rows.index(query.beside, beside[1]) if beside else None)
        pages = max(1, -(-len(found) // PAGE_GROUPS))
        page = min(query.page, pages)
        chosen = [int(p) for p in found[(page - 1) * PAGE_GROUPS : page * PAGE_GROUPS]]
        scored = entry.table == SCORED
        offered = verdicts(index.parts[0].path, _SAMPLE) if index.parts and scored else []
        others = [e for e in self.library.entries().values() if e.table in COMPLETED and e.key != entry.key]
        return self._renderer.page(
            "groups",
            **about(self.library, entry, folder),
            **self._cards(folder, index, chosen, query.beside),
            query=query,
            found=len(found),
            total=len(index),
            page=page,
            pages=pages,
            options=_options(index) | {"verdict": offered},
            only={k: v for k, v in ONLY.items() if k != DIFFER or beside},
            orders=ORDERS if scored else {},
            alike=[e for n, e in enumerate(others) if n < _BESIDE or e.key == query.beside],
        )

    def _cards(self, folder: RunFolder, index: RunIndex, chosen: list[int], beside: str) -> dict[str, Any]:
        """The cards of these groups in this order with their positions; and of the run beside, by id."""
        made = _by_position(folder, index, chosen)
        shown: dict[str, Any] = {"cards": [(p, made[p]) for p in chosen], "beside": {}, "other": None}
        shown |= {"said": self.rows.words.latest(), "reader": self.rows.words.who, "worth": list(WORTH)}
        if (opened := self.rows.opened(beside, COMPLETED)) is not None:
            other = self.rows.index(beside, opened[1])
            there = [p for card in made.values() if (p := other.position(card.id)) is not None]
            shown["beside"] = {card.id: (p, card) for p, card in _by_position(opened[1], other, there).items()}
            shown["other"] = opened[0]
        return shown

    def _training(self, entry: Entry, folder: RunFolder, following: bool = False) -> str:
        from stages.eval.report.curves import charts
        from stages.eval.report.figures import training

        trained = trained_before(self.library, entry)
        facts = about(self.library, entry, folder) | {"following": following}
        if following:
            facts["working"] = all_working(self.library)
        drawn = charts(steps for e in trained if (steps := self._steps(e)) is not None)
        return self._renderer.page("training", **facts, training=training(drawn), trained=trained)

    def _steps(self, entry: Entry) -> Committed | WhileTraining | None:
        """The steps of a training run, kept where they are few and none will come; None for a run that is gone."""
        # A folder that was removed and made anew has another date.
        if (known := self._committed.get((entry.path, entry.date))) is not None:
            return known
        if (folder := self.library.open(entry.key)) is None:
            return None
        if not entry.complete or entry.rows > _TURN_STEPS or is_url(entry.path):
            return WhileTraining(folder)
        return self._committed.setdefault((entry.path, entry.date), Committed(folder))


def _by_position(folder: RunFolder, index: RunIndex, chosen: list[int]) -> dict[int, Card]:
    """Cards of groups, by position."""
    # Rows come in ascending order, as positions do when sorted.
    return dict(zip(sorted(set(chosen)), cards(folder, index.rows(list(set(chosen)))), strict=True))


def _options(index: RunIndex) -> dict[str, list[str]]:
    """What labels, families and kinds there are, of those of which there are any."""
    names = {"label": "label", "family": "family", "kind": "harmful"} if index.columns else {}
    found = {shown: sorted(set(index.columns[name]) - {""}) for shown, name in names.items()}
    return {name: options for name, options in found.items() if options}
