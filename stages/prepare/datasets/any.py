"""Any file, folder or hub id: what it is and which column is what is found out, said, and can be corrected.

    cosmo prepare questions.csv
    cosmo prepare train.parquet --map answer=reward_model.ground_truth

    [[prepare.sources]]
    name = "any"
    path = "questions.csv"
    map = { answer = "gold", label = "'safety'" }
    images = "pictures"

A name that is no dataset is one of these, so that `any:` needs not be typed. Formats, layouts and what is read from
where: docs/data.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.prompts import PromptRow
from stages.core.config import option
from stages.prepare.datasets.base import Record
from stages.prepare.reading.columns import KINDS
from stages.prepare.reading.records import row_of
from stages.reading.unread_images import UnreadImage


@dataclass(frozen=True)
class AnyOptions:
    """Where the data is, corrections of how it is read, and what holds for rows that do not say it."""

    path: str = option("", "A file, a folder, or a hub id", affects=False)
    part: str = option("", "Which split, CONFIG:SPLIT or list of records, where there are several")
    map: dict[str, str] = option({}, "Our name = where it lies: a.b, a[0], 'a constant', or none to leave it out")
    images: str = option("", "Folder that image paths are relative to; the file's own if empty", affects=False)
    allow_outside: bool = option(False, "Image paths may lead out of that folder")
    fetch_images: bool = option(False, "Download images that are web addresses")
    label: str = option("general", "Label of rows without one")
    task: str = option("", "Task of rows without one; their label if empty")
    split: str = option("train", "Split of rows without one", choices=("train", "test"))
    answer_kind: str = option("", "How to compare answers; guessed if empty", choices=KINDS)
    flags: list[str] = option([], "Flags added to every row")


class AnyDataset:
    """Whatever people have, read by what it looks like."""

    version = 3
    options = AnyOptions

    def digest(self, options: AnyOptions) -> dict[str, str]:
        """What identifies the files or the hub's commit, and all images that records name."""
        from stages.prepare.reading.scans import scanned

        return scanned(options).digest

    def records(self, options: AnyOptions, seed: int) -> Iterator[Record]:
        """One record for each of the container's."""
        from stages.prepare.reading.scans import scanned

        yield from scanned(options).records

    def row(self, record: Record, options: AnyOptions) -> PromptRow:
        """The row of one record, which is read again: images are not kept in memory."""
        read, position = record.payload
        return row_of(read.draft(read.container.read(position)))

    def images(self, record: Record, options: AnyOptions) -> list[UnreadImage]:
        """The images of one record, which is read again."""
        read, position = record.payload
        return read.images(read.container.read(position))

    def reading(self, options: AnyOptions) -> list[str]:
        """How it is read, in a line, and what in it is not read, in another."""
        from stages.prepare.reading.scans import sniffed

        return sniffed(options).lines()

    def first_rows(self, options: AnyOptions, most: int) -> Iterator[PromptRow | str]:
        """The first rows as they would be; of a record that is rejected, why."""
        from stages.core.errors import BadSample
        from stages.prepare.reading.scans import sniffed
        from stages.reading.containers.base import taken

        read = sniffed(options)
        for item, _ in zip(read.container.items(), range(most), strict=False):
            try:
                yield row_of(read.draft(taken(item)))
            except BadSample as bad:
                yield f"{item.ref} is rejected: {bad}"


PLUGIN = AnyDataset()
