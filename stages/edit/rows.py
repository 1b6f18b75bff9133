"""Where the groups of a run lie by id, and reading a few of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.tables import Table
from stages.core.errors import InputError
from stages.core.runs.folder import RunFolder
from stages.core.runs.shards import read_columns, rows_at


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a group lies, by number."""

    folder: int
    shard: int
    row: int


class Groups:
    """The groups of some runs by id; of two with one id the first counts, as in `cosmo rollout`."""

    def __init__(self, folders: list[RunFolder], table: Table) -> None:
        self._folders, self._table = folders, table
        self._addresses: dict[str, Address] = {}
        self._splits: dict[str, str] = {}
        for number, folder in enumerate(folders):
            for shard, path in enumerate(folder.shard_paths()):
                found = read_columns(path, ["id", "split"], table).select(["id", "split"])
                for row, (ident, split) in enumerate(zip(*(c.to_pylist() for c in found.columns), strict=True)):
                    self._addresses.setdefault(ident, Address(number, shard, row))
                    self._splits.setdefault(ident, split)

    def find(self, ident: str) -> str | None:
        """The whole id of the group with this id, or with the one that begins so; None where there is none, or more."""
        if ident in self._addresses:
            return ident
        found = [known for known in self._addresses if known.startswith(ident)] if ident else []
        return found[0] if len(found) == 1 else None

    def split(self, ident: str) -> str:
        """The split of the group with this id; KeyError where there is none."""
        return self._splits[ident]

    def read(self, idents: list[str]) -> dict[str, Any]:
        """The groups with these ids; InputError for an id that is not there."""
        wanted: dict[tuple[int, int], list[int]] = {}
        for ident in idents:
            if ident not in self._addresses:
                raise InputError(f"there is no completion of {ident!r} here", "cosmo show RUN lists ids")
            address = self._addresses[ident]
            wanted.setdefault((address.folder, address.shard), []).append(address.row)
        found = {}
        for (folder, shard), rows in sorted(wanted.items()):
            path = self._folders[folder].shard_paths()[shard]
            for group in rows_at(path, self._table, sorted(set(rows))):
                found[group.id] = group
        return found
