"""The groups of some runs by id, and reading a few of them."""

from __future__ import annotations

from typing import Any

from schemas.tables import Table
from stages.core.errors import InputError
from stages.core.resources import Resources
from stages.core.runs.folder import RunFolder
from stages.core.runs.select import Entry, index
from stages.core.runs.shards import rows_at


class Groups:
    """The groups of some runs by id; of two with one id the first counts, as in `cosmo rollout`."""

    def __init__(self, folders: list[RunFolder], table: Table, resources: Resources | None = None) -> None:
        self.folders, self._table = folders, table
        self.entries = index(folders, resources)
        """Every group of the runs, in order."""
        # Backwards, so that of one id the first stays.
        self._by_id = {entry.id: entry for entry in reversed(self.entries)}

    def find(self, ident: str) -> str | None:
        """The whole id of the group with this id, or with the one that begins so; None where there is none, or more."""
        if ident in self._by_id:
            return ident
        found = [known for known in self._by_id if known.startswith(ident)] if ident else []
        return found[0] if len(found) == 1 else None

    def split(self, ident: str) -> str:
        """The split of the group with this id; KeyError where there is none."""
        return self._by_id[ident].split

    def read(self, idents: list[str]) -> dict[str, Any]:
        """The groups with these ids; InputError for an id that is not there."""
        wanted: dict[tuple[int, int], list[Entry]] = {}
        for ident in idents:
            if ident not in self._by_id:
                raise InputError(f"there is no completion of {ident!r} here", "cosmo show RUN lists ids")
            entry = self._by_id[ident]
            wanted.setdefault((entry.folder, entry.shard), []).append(entry)
        found = {}
        for (folder, shard), entries in sorted(wanted.items()):
            path = self.folders[folder].shard_paths()[shard]
            for group in rows_at(path, self._table, sorted({entry.row for entry in entries})):
                found[group.id] = group
        return found
