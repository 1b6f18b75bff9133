"""One pass over a container: its records as planning needs them, and what identifies its content."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.identity import digest
from stages.core.errors import BadSample, InputError
from stages.prepare.datasets.base import Record
from stages.prepare.kept_rows import KeptRows
from stages.prepare.reading.records import record_of, rejected_record
from stages.reading.containers.base import Container, Item, taken
from stages.reading.containers.found import found
from stages.reading.layouts.columns import Columns
from stages.reading.layouts.image_values import LONGEST_PATH, ImageRules
from stages.reading.layouts.look import columns_of
from stages.reading.layouts.samples import plain_sample, record_images
from stages.reading.layouts.shapes import there
from stages.reading.plain_samples import Defaults, Draft, draft_of, images_of
from stages.reading.unread_images import UnreadImage

SNIFFED = 64
"""Records that are looked at before the first is read."""


@dataclass(slots=True)
class Read:
    """A container and how its records are read."""

    container: Container
    columns: Columns | None
    """None for prompt rows of our own, which say all themselves."""
    rules: ImageRules
    defaults: Defaults
    head: list[dict[str, Any]] = field(default_factory=list)
    mapped: dict[str, str] = field(default_factory=dict)

    def draft(self, record: dict[str, Any], image: Callable[[Any, str], UnreadImage] | None = None) -> Draft:
        """The draft of one record; `image` may note what is read."""
        if self.columns is None:
            from stages.prepare.datasets.parquet import prompt_row_draft

            return prompt_row_draft(record)
        try:
            return draft_of(plain_sample(record, self.columns), self.defaults, image or self.rules.image)
        # Columns of a stranger's file may hold anything anywhere: what was not thought of costs one row and no run.
        except (TypeError, AttributeError, KeyError, ValueError, RecursionError) as error:
            raise BadSample("malformed", f"can't be read ({type(error).__name__}: {error})") from None

    def images(self, record: dict[str, Any]) -> list[UnreadImage]:
        """The images of one record's draft."""
        if self.columns is None:
            from stages.prepare.datasets.parquet import prompt_row_images

            return prompt_row_images(record)
        return images_of({"images": record_images(record, self.columns)}, self.rules.image)

    def learn(self, record: dict[str, Any]) -> bool:
        """Look at a record with columns that none before had; whether it changes what is read from where."""
        if self.columns is None or all(c in self.columns.seen for c, v in record.items() if there(v)):
            return False
        self.head.append(record)
        new = columns_of(self.head, self.mapped, self.container.name)
        old, self.columns = self.columns, new
        return (old.fields, old.letters, old.numbered) != (new.fields, new.letters, new.numbered)

    def lines(self) -> list[str]:
        """How it is read, in a line; then what looks like something and is not read."""
        counted = self.container.count()
        rows = "" if counted is None else f"; {counted} row{'' if counted == 1 else 's'}"
        if self.columns is None:
            return [f"prompt rows of cosmo{rows}"]
        layout = "" if self.columns.layout == self.container.kind else self.columns.layout
        head = f"{layout} {self.container.kind}".strip()
        overlooked = self.columns.overlooked()
        return [f"{head}: {self.columns.line()}{rows}", *([overlooked] if overlooked else [])]


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass found."""

    digest: dict[str, str]
    records: list[Record]
    files: list[Path]
    """The container's files."""
    seen: list[tuple[str, int, int]]
    """(path, size, mtime) of every file that was looked at; -1 for one that was not there."""


_MOST_SCANS = 8
_scans: dict[str, Scan] = {}


def last_scan(key: str, files: Callable[[], list[Path]], make: Callable[[], Scan]) -> Scan:
    """The last scan of a source, kept while its files are what they were: identity and records are asked for apart.

    `files` are those that a scan would read now, and `make` is one.
    """
    last = _scans.pop(key, None)
    if last is None or files() != last.files or any(stat_of(entry[0]) != entry for entry in last.seen):
        last = make()
    # In the order in which they were asked for: the oldest goes.
    while len(_scans) >= _MOST_SCANS:
        del _scans[next(iter(_scans))]
    _scans[key] = last
    return last


def sniffed(options: Any) -> Read:
    """The container of a source and how it is read, from its first records; InputError where it can't be."""
    container = found(options.path, options.part)
    folder = Path(options.images).expanduser() if options.images else container.folder
    if options.images and folder is not None and not folder.is_dir():
        raise InputError(f"no such folder of images: {folder}", "give a folder that is there")
    defaults = Defaults.of(options, f"any:{container.name}")
    read = Read(container, None, ImageRules(folder, options.allow_outside, options.fetch_images), defaults)
    if _holds_prompt_rows(container):
        return read
    items = list(itertools.islice(container.items(), SNIFFED))
    read.head = [i.record for i in items if not isinstance(i.record, BadSample)]
    read.mapped = dict(options.map)
    if not read.head:
        raise InputError(f"{options.path} holds no record that can be read", _first_fault(items))
    read.columns = columns_of(read.head, read.mapped, Path(options.path).name)
    return read


def scanned(options: Any) -> Scan:
    """All records of a source, with what identifies it, in one pass."""
    return last_scan(repr(options), lambda: found(options.path, options.part).files, lambda: _scan(options))


def _scan(options: Any) -> Scan:
    read = sniffed(options)
    scan = None
    while scan is None:
        scan = _pass(read)
    return scan


def _pass(read: Read) -> Scan | None:
    """One pass; None where a record on the way changed what is read from where."""
    images: list[list[str]] = []
    seen = [stat_of(str(file)) for file in read.container.files]

    def note(value: Any, name: str) -> UnreadImage:
        try:
            image = read.rules.image(value, name)
        except BadSample as bad:
            images.append([bad.reason, bad.detail])
            _see(value)
            raise
        if isinstance(value, str | dict) and _see(value):
            images.append([image.name, image.digest()])
        return image

    def _see(value: Any) -> bool:
        """Note a file that a value names; False where it is content, which the container's own digest covers."""
        path = value.get("path") if isinstance(value, dict) else value
        inside = isinstance(value, dict) and value.get("bytes") is not None
        if inside or not isinstance(path, str) or len(path) > LONGEST_PATH or path.startswith("data:"):
            return False
        if read.rules.folder is not None and not path.startswith(("http://", "https://")):
            seen.append(stat_of(str(read.rules.folder / read.rules.path_of(path))))
        return True

    records, kept = [], KeptRows()
    for item in read.container.items():
        if not isinstance(item.record, BadSample) and read.learn(item.record):
            return None
        try:
            records.append(record_of(read.draft(taken(item), note), item.ref, (read, item.position), kept))
        except BadSample as bad:
            records.append(rejected_record(item.ref, bad))
    whole = read.container.identity()
    if images:
        whole["images"] = digest(images)
    return Scan(whole, records, read.container.files, seen)


def stat_of(path: str) -> tuple[str, int, int]:
    """(path, size, mtime) of a file; -1 for one that is not there."""
    with contextlib.suppress(OSError, ValueError):
        stat = Path(path).stat()
        return path, stat.st_size, stat.st_mtime_ns
    return path, -1, -1


def _first_fault(items: list[Item]) -> str:
    faults: Iterator[str] = (f"{i.ref}: {i.record.detail}" for i in items if isinstance(i.record, BadSample))
    return next(faults, "is it the right file, and not empty?")


def _holds_prompt_rows(container: Container) -> bool:
    from stages.reading.containers.tables import Parquet

    return isinstance(container, Parquet) and container.holds_prompt_rows()
