"""Datasets of the Hugging Face hub, through `datasets`: pinned to a commit, cached, mapped into memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from stages.core.errors import InputError
from stages.reading.containers.base import Container, Item
from stages.reading.hub_datasets import HubPart, commit, loaded

_BATCH = 128
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_id(text: str) -> bool:
    """Whether the text has the form ORG/NAME of the hub's ids."""
    return _ID.fullmatch(text) is not None


class Hub(Container):
    """Rows of one split of a hub dataset. `part` is CONFIG:SPLIT, or either; `train` is the default split."""

    kind = "hub dataset"

    def __init__(self, path: str, part: str) -> None:
        super().__init__([], None, path.rpartition("/")[2])
        config, colon, split = part.partition(":")
        # One word is the split, as most datasets have one configuration.
        self._options = HubPart(
            path=path, config=config if colon else "", split=(split if colon else config) or "train"
        )
        self._data: Any = None
        self._classes: dict[str, list[str]] = {}

    def items(self) -> Iterator[Item]:
        """The rows by number, images as the bytes that they are stored in."""
        n = 0
        for table in self._arrow().iter(batch_size=_BATCH):
            for record in table.to_pylist():
                yield Item(f"{self._options.split} row {n}", n, self._named(record))
                n += 1

    def read(self, position: Any) -> dict[str, Any]:
        """The row of a number."""
        rows = self._arrow()[position : position + 1].to_pylist()
        if not rows:
            raise InputError(f"{self.name} changed while it was read", "run the command again")
        return self._named(rows[0])

    def count(self) -> int | None:
        """Rows of the split."""
        return len(self._arrow())

    def identity(self) -> dict[str, str]:
        """The commit that the id stands for, and which part of it."""
        found = self._options
        part = f"{found.config}:{found.split}"
        return {"id": found.path, "revision": commit(found.path, found.revision), "part": part}

    def _arrow(self) -> Any:
        if self._data is None:
            import datasets

            data = loaded(self._options)
            features = data.features.items()
            self._classes = {n: f.names for n, f in features if isinstance(f, datasets.ClassLabel)}
            # Arrow, because `datasets` would decode each image into a PIL object on the way.
            self._data = data.with_format("arrow")
        return self._data

    def _named(self, record: dict[str, Any]) -> dict[str, Any]:
        for column, names in self._classes.items():
            value = record.get(column)
            if isinstance(value, int) and 0 <= value < len(names):
                record[column] = names[value]
        return record
