"""What stands above every page of a run: what it was made from and of what, and its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cosmo_cli.view.library import Entry, Library
from cosmo_cli.view.lineage import draw_lineage
from stages.core.storage.location import public
from stages.eval.report.lineage import rejected_by_reason

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder

STEPS = "steps"
"""The table of training runs."""
_LEVELS = 8
"""So many runs up the lineage the last one of the same stage is looked for: a turn has three."""
_LONGEST_SETTING = 300


def about(library: Library, entry: Entry, folder: RunFolder) -> dict[str, Any]:
    """Facts of a run for `about.html.jinja`."""
    entries = library.entries()
    return {
        "entry": entry,
        "where": public(entry.path),
        "fingerprint": folder.fingerprint[:12],
        "lineage": draw_lineage(entries, entry),
        "rejected": rejected_by_reason(folder),
        "settings": flat(folder.config),
        "changed": changed(library, entry, folder),
    }


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
