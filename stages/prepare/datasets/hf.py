"""Hugging Face datasets: a hub id or a local folder, through `datasets`, with a mapping of columns.

    [[prepare.sources]]
    name = "hf"
    path = "org/questions"          # or a folder: data files, or what save_to_disk wrote
    split = "train"
    columns = { prompt = "question", image = "figure", answer = "gold" }

Samples are read as `stages/reading/plain_samples.py` says. A hub id is pinned to the commit it points to
when it is planned (give `revision` to pin it yourself); without network the newest cached copy is used, and without one
it is unavailable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.identity import digest
from schemas.prompts import PromptRow
from stages.core.config import option
from stages.core.errors import BadSample
from stages.prepare.datasets.base import Record
from stages.prepare.kept_rows import KeptRows
from stages.prepare.reading.columns import KINDS, item_of, mapping
from stages.prepare.reading.records import record_of, rejected_record, row_of
from stages.reading.files import sha256
from stages.reading.hub_datasets import HubPart, commit, loaded, local_folder
from stages.reading.plain_samples import Defaults, Draft, draft_of, images_of
from stages.reading.unread_images import UnreadImage, image_from

# Rows decoded at a time: whole images may be in them.
_BATCH = 256


@dataclass(frozen=True)
class HfOptions:
    """Which dataset, which part of it, and which of its columns is what."""

    path: str = option("", "Hub id, or a local folder", affects=False)
    config: str = option("", "The dataset's configuration, where it has several")
    split: str = option("train", "The dataset's own split")
    revision: str = option("", "Commit or tag of a hub id; its main branch if empty")
    columns: dict[str, str] = option({}, "Our name = their column, where they differ")
    keep: list[str] = option([], "Further columns, kept in the row's `extra`")
    label: str = option("general", "Label of rows without one")
    task: str = option("", "Task of rows without one; their label if empty")
    rows_split: str = option(
        "", "Split of our rows; if empty, test unless theirs starts with train", choices=("", "train", "test")
    )
    answer_kind: str = option("", "How to compare answers; guessed if empty", choices=KINDS)
    flags: list[str] = option([], "Flags added to every row")


class Hf:
    """Datasets of the Hugging Face hub, or folders: whatever `datasets.load_dataset` reads."""

    version = 2
    options = HfOptions

    def digest(self, options: HfOptions) -> dict[str, str]:
        """The commit of a hub id; sha256 over all files of a local folder."""
        folder = local_folder(options.path)
        if folder is None:
            return {"id": options.path, "revision": commit(options.path, options.revision)}
        files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
        return {"files": digest([[p.relative_to(folder).as_posix(), sha256(p)] for p in files])}

    def records(self, options: HfOptions, seed: int) -> Iterator[Record]:
        """One record a row; images are hashed and not decoded."""
        rows = _rows(loaded(_part(options)), options)
        n, kept = 0, KeptRows()
        for table in rows.data.iter(batch_size=_BATCH):
            for item in table.to_pylist():
                ref = f"{options.split} row {n}"
                try:
                    yield record_of(rows.draft(item), ref, (rows, n), kept)
                except BadSample as bad:
                    yield rejected_record(ref, bad)
                n += 1

    def row(self, record: Record, options: HfOptions) -> PromptRow:
        """The row at a position: `datasets` maps its files into memory."""
        rows, n = record.payload
        return row_of(rows.draft(rows.read(n)))

    def images(self, record: Record, options: HfOptions) -> list[UnreadImage]:
        """The images at a position."""
        rows, n = record.payload
        return images_of(rows.item(rows.read(n)), rows.image)


def _part(options: HfOptions) -> HubPart:
    """What of the options says which rows there are."""
    return HubPart(options.path, options.config, options.split, options.revision)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The dataset, and which of its columns is what."""

    data: Any
    whole: dict[str, str]
    """Our name -> their column."""
    classes: dict[str, Any]
    """Column -> number of a class to its name: a ClassLabel holds numbers, and people mean the names."""
    defaults: Defaults
    folder: Path | None

    def read(self, n: int) -> dict[str, Any]:
        """The record at a position."""
        found: dict[str, Any] = self.data[n : n + 1].to_pylist()[0]
        return found

    def item(self, record: dict[str, Any]) -> dict[str, Any]:
        """The sample of a record."""
        named = {n: self.classes[n](v) if n in self.classes and v is not None else v for n, v in record.items()}
        return item_of(named, self.whole)

    def draft(self, record: dict[str, Any]) -> Draft:
        """The draft of a record."""
        return draft_of(self.item(record), self.defaults, self.image)

    def image(self, value: Any, name: str) -> UnreadImage:
        """An image as the dataset holds it."""
        return image_from(value, name, self.folder)


def _rows(data: Any, options: HfOptions) -> _Rows:
    import datasets

    split = options.rows_split or ("train" if options.split.startswith("train") else "test")
    defaults = Defaults(
        source=f"hf:{Path(options.path).name}",
        label=options.label,
        task=options.task,
        split=split,
        answer_kind=options.answer_kind,
        flags=tuple(options.flags),
    )
    return _Rows(
        # Arrow, because `datasets` would decode each image into a PIL object on the way.
        data.with_format("arrow"),
        mapping(options.columns, options.keep, list(data.column_names), options.path),
        {n: f.int2str for n, f in data.features.items() if isinstance(f, datasets.ClassLabel)},
        defaults,
        local_folder(options.path),
    )


PLUGIN = Hf()
