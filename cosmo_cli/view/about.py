"""What stands above every page of a run: what it was made from and of what, its settings, and how far it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmo_cli.recipe.progress import clock
from cosmo_cli.view.library import Entry, Library
from cosmo_cli.view.lineage import draw_lineage
from schemas.arrow import from_record
from schemas.steps import StepRow
from stages.capacity.units import size
from stages.core.runs.noted import Note, notes
from stages.core.storage.local import inside
from stages.core.storage.location import is_url, public
from stages.eval.report.lineage import rejected_by_reason
from stages.train.run_log import LIVE

if TYPE_CHECKING:
    from schemas.tables import Table
    from stages.core.runs.folder import RunFolder

STEPS = "steps"
"""The table of training runs."""
_LEVELS = 8
"""So many runs up the lineage the last one of the same stage is looked for: a turn has three."""
_LONGEST_SETTING, _SLOWEST = 300, 0.01
_LARGEST = 100_000_000
"""Bytes of steps of a run that goes on: of more the page waits until they are committed."""


def about(library: Library, entry: Entry, folder: RunFolder) -> dict[str, Any]:
    """Facts of a run for `about.html.jinja`."""
    entries = library.entries()
    return {
        "entry": entry,
        "where": public(entry.path),
        "fingerprint": folder.fingerprint[:12],
        "lineage": draw_lineage(entries, entry),
        "working": working(entry, folder),
        "following": False,
        "rejected": rejected_by_reason(folder),
        "settings": flat(folder.config),
        "changed": changed(library, entry, folder),
    }


def working(entry: Entry, folder: RunFolder) -> dict[str, Any]:
    """What processes at work on a run that is not complete say of it, and how much room they have."""
    if entry.complete or is_url(entry.path):
        return {"said": []}
    return {"said": [_spelled(note) for note in notes(folder)], "free": size(shutil.disk_usage(entry.path).free)}


def all_working(library: Library) -> dict[str, Any]:
    """What everything that is at work says: recipes, then runs, each with a link; and the room of the first place."""
    said = [_spelled(note, entry) for entry, found in library.at_work() for note in found]
    place = next((p for p in library.places if not is_url(p)), None)
    return {"said": said, "free": size(shutil.disk_usage(place).free) if said and place is not None else ""}


def _spelled(note: Note, entry: Entry | None = None) -> dict[str, Any]:
    left = "" if note.seconds_left is None else clock(note.seconds_left)
    # Of turns that take minutes a second is no measure, and where tokens are counted they say it better.
    slow = note.speed is None or note.speed < _SLOWEST or "tokens_per_second" in note.numbers
    return {"note": note, "left": left, "speed": "" if slow else f"{note.speed:.3g}", "entry": entry}


class Committed:
    """The steps of a training run that is complete: a page of hundreds of turns asks for all of them every time."""

    def __init__(self, folder: RunFolder) -> None:
        from schemas.tables import STEPS as STEPS_TABLE

        self._rows = list(folder.rows(STEPS_TABLE))

    def rows(self, table: Table) -> list[Any]:
        """Its steps; it has no other rows."""
        return self._rows if table.name == STEPS else []


class WhileTraining:
    """A training run as its curves are drawn while it goes on: its committed rows, then those that it has so far."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def rows(self, table: Table) -> Iterator[Any]:
        """Rows of that table; of steps those, too, that a process at work has written down."""
        yield from self._folder.rows(table)
        if table.name == STEPS and not is_url(self._folder.where) and self._folder.missing():
            for path in sorted(inside(self._folder.path, "staging").glob(f"*.scratch/{LIVE}")):
                yield from _steps(path)


def _steps(path: Path) -> Iterator[StepRow]:
    """The whole lines of a file of steps; the last one may be half written, and a stranger's may hold anything."""
    if path.is_symlink() or path.parent.is_symlink() or path.stat().st_size > _LARGEST:
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield from_record(StepRow, json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return


def changed(library: Library, entry: Entry, folder: RunFolder) -> list[tuple[str, str, str]]:
    """Settings that differ from those of the nearest run of the same stage above: (name, there, here)."""
    entries, level = library.entries(), [entry.key]
    for _ in range(_LEVELS):
        level = list(dict.fromkeys(k for key in level for k in entries[key].parents if k in entries))
        if (same := next((k for k in level if entries[k].stage == entry.stage), None)) is not None:
            above = library.open(same)
            before, after = dict(flat(above.config if above else {})), dict(flat(folder.config))
            names = [n for n in before | after if before.get(n) != after.get(n)]
            return [(n, before.get(n, "–"), after.get(n, "–")) for n in sorted(names)]
    return []


def trained_before(library: Library, entry: Entry) -> list[Entry]:
    """The training runs that led to this one, the first of them first, and itself."""
    entries, found, seen = library.entries(), [entry], {entry.key}
    while True:
        above = [e for k in found[0].parents if (e := entries.get(k)) is not None]
        # Its policy's run, or where its groups come from: what sampled them.
        behind = [e for p in above for k in p.parents if (e := entries.get(k)) is not None]
        trained = [e for e in [*above, *behind] if e.table == STEPS and e.key not in seen]
        if not trained:
            return found
        found.insert(0, trained[0])
        seen.add(trained[0].key)


def flat(config: Any, before: str = "") -> list[tuple[str, str]]:
    """Settings by dotted name, as texts; what is empty is left out."""
    if isinstance(config, dict):
        return [pair for k, v in config.items() for pair in flat(v, f"{before}.{k}" if before else str(k))]
    return [] if config in (None, "", []) else [(before, str(config)[:_LONGEST_SETTING])]
