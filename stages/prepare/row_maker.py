"""Rows of planned picks: made by their source, images checked, augmented where the plan says so."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from schemas.values import Image
from stages.core.errors import BadSample, InputError
from stages.core.parallel_map import in_order
from stages.core.stage import Resources
from stages.prepare.augment import flagged, named_heldout_families
from stages.prepare.augmentations.base import through
from stages.prepare.config import PrepareConfig
from stages.prepare.datasets.base import ImagesApart, Record
from stages.prepare.kept_rows import KeptRows
from stages.prepare.mixing import Step
from stages.prepare.reading.records import images_key, read_images
from stages.prepare.sources import Source, records

_MOST_RECENT = 16
"""Rows kept in memory for the twins and families that come next."""
_DECODERS = 4
"""More threads than that wait for each other's Python."""
_HANDFUL, _HANDFUL_BYTES = 16, 256 << 10
"""Rows, or bytes of images, that a thread is given at once."""
Kept = dict[KeptRows, tuple[list[int], list[int]]]
"""Where rows lie -> their places in the shard, and their numbers there."""


@dataclass(frozen=True, slots=True)
class Illustrated:
    """The images of a kept row, which is finished with them."""

    record: Record
    images: list[Image]

    def row(self) -> PromptRow:
        """The row without its images, as an object."""
        return _lying(self.record).row(self.record.kept_at)


_Read = PromptRow | Illustrated | BadSample
Made = tuple[PromptRow | Illustrated, list[str]]
"""A row, and what is odd about its images' names."""


class RowMaker:
    """Makes rows from the plan's positions; anything that fails is a BadSample."""

    def __init__(self, sources: list[Source], config: PrepareConfig, resources: Resources) -> None:
        self._sources, self._config, self._resources = sources, config, resources
        # Looked at once: whether an object fits a protocol takes longer to say than an image to decode.
        self._apart = [s.plugin if isinstance(s.plugin, ImagesApart) else None for s in sources]
        # Named ones suffice: a family that a source holds out by itself is flagged in its rows already.
        self._heldout = named_heldout_families(config, sources)
        self._records: dict[int, list[Record]] = {}
        self._recent: OrderedDict[tuple[int, int], tuple[PromptRow, list[str]]] = OrderedDict()

    def record(self, source: int, index: int) -> Record:
        """The record at a planned position; InputError when the source is another by now."""
        if source not in self._records:
            self._records[source] = records(self._sources[source], self._config.seed, self._resources)
        found = self._records[source]
        # Positions are the plan's: a source with fewer records, or a bad one here, is not the one whose digest is in
        # the key.
        if index >= len(found) or found[index].rejected is not None:
            raise InputError(f"{self._sources[source].shown} changed while it was prepared", "run the command again")
        return found[index]

    def kept(self, shard: dict[str, Any]) -> Kept:
        """The shard's rows that are finished and go into it as they are, by where they lie."""
        found: Kept = {}
        there: dict[KeptRows, bool] = {}
        steps = shard.get("steps") or itertools.repeat(None)
        for n, (source, index, step) in enumerate(zip(shard["source"], shard["index"], steps, strict=False)):
            record = self.record(source, index)
            rows = record.kept_in
            if step is not None or record.images or rows is None or record.family in self._heldout:
                continue
            if rows not in there:
                there[rows] = rows.is_there()
            if there[rows]:
                places, numbers = found.setdefault(rows, ([], []))
                places.append(n)
                numbers.append(record.kept_at)
        return found

    def named(self, source: int, index: int) -> tuple[str, str]:
        """The source of a planned position, and where the record is in it, for people."""
        return self._sources[source].name, self.record(source, index).ref

    def _is_kept(self, record: Record) -> bool:
        """Whether the row lies finished, images aside, as it goes into its shard."""
        rows = record.kept_in
        return rows is not None and record.family not in self._heldout and rows.is_there()

    def make_rows(
        self, positions: Iterable[tuple[int, int]], whole: Container[tuple[int, int]] | None = None
    ) -> Iterator[tuple[tuple[int, int], Made | BadSample]]:
        """The rows of planned positions (source, index), in order, their images decoded by several threads.

        Of a row that is kept only the images are made, unless its position is in `whole`, or that is None.
        Sources are read in this thread: files are read well one after the other.
        """
        apart = [plugin if whole is not None else None for plugin in self._apart]
        read = (
            (at, self._images(at, plugin) if (plugin := apart[at[0]]) and at not in (whole or ()) else self._read(at))
            for at in positions
        )
        for position, made in _all_checked(read, self._config):
            if not isinstance(made, BadSample) and isinstance(row := made[0], PromptRow):
                self._keep(position, (row, made[1]))
            yield position, made

    def finish(self, made: Made, source: int, step: Step | None) -> Made:
        """The row as the plan wants it: as it was made, or augmented."""
        row, wrong_names = made
        if isinstance(row, Illustrated):
            return made
        if step is None:
            return flagged(row, row.family in self._heldout), wrong_names
        twin_of, partner = (None if n is None else self._other_row((source, n)) for n in (step.twin_of, step.partner))
        new = through(row, step.family, self._config.seed, twin_of, partner)
        if new is None:
            # Planning asked `fits`, which does not decode; that an image is too small to cut is only known here.
            raise BadSample("not_applicable", f"family {step.family!r} can't rewrite this row")
        return flagged(new, step.heldout), []

    def _other_row(self, position: tuple[int, int]) -> PromptRow:
        """A row that another one is made with."""
        if position not in self._recent:
            made = _checked(self._read(position), self._config)
            if isinstance(made, BadSample):
                raise made
            row, wrong_names = made
            assert isinstance(row, PromptRow), "it was read whole"
            self._keep(position, (row, wrong_names))
        return self._recent[position][0]

    def _keep(self, position: tuple[int, int], made: tuple[PromptRow, list[str]]) -> None:
        self._recent[position] = made
        if len(self._recent) > _MOST_RECENT:
            self._recent.popitem(last=False)

    def _read(self, position: tuple[int, int]) -> PromptRow | BadSample:
        """The row as its source has it."""
        chosen = self._sources[position[0]]
        try:
            return chosen.plugin.row(self.record(*position), chosen.options)
        except BadSample as error:
            return error

    def _images(self, position: tuple[int, int], plugin: ImagesApart) -> _Read:
        """The images of a kept row as its source has them; the whole row where it isn't kept."""
        record = self.record(*position)
        if not self._is_kept(record):
            return self._read(position)
        try:
            return Illustrated(record, read_images(plugin.images(record, self._sources[position[0]].options)))
        except BadSample as error:
            return error


def _checked(row: _Read, config: PrepareConfig) -> Made | BadSample:
    """The row with images any decoder reads; its id follows where one had to be rewritten."""
    if isinstance(row, BadSample):
        return row
    if isinstance(row, PromptRow) and not row.images:
        return row, []
    from stages.models.image_checks import Limits, check_image, sniff, suffix_is_wrong

    limits = Limits(config.max_image_bytes, config.max_image_pixels, config.min_image_side)
    # By the bytes as they came: a rewritten image has the suffix of what it became.
    wrong_names = [f"{i.path} is {sniff(i.bytes)}" for i in row.images if suffix_is_wrong(i.path or "", i.bytes)]
    try:
        images = [check_image(i.bytes, i.path or "image", limits) for i in row.images]
    except BadSample as error:
        return error
    # `check_image` hands the very object back where nothing had to be changed, so identity is enough and no
    # megabytes are compared.
    if all(new.bytes is old.bytes for new, old in zip(images, row.images, strict=True)) and _is_as_planned(row):
        return row, wrong_names
    if isinstance(row, Illustrated):
        row = row.row()
    new_id = prompt_id(label=row.label, messages=row.messages, images=images, answer=row.answer)
    return dataclasses.replace(row, id=new_id, images=images), wrong_names


def _all_checked(
    read: Iterable[tuple[tuple[int, int], _Read]], config: PrepareConfig
) -> Iterator[tuple[tuple[int, int], Made | BadSample]]:
    """The rows with their images looked at, in order."""
    rows = iter(read)
    if (first := next(rows, None)) is None:
        return
    # Where all rows are kept Pillow is not needed.
    from stages.models.image_checks import silence_pillow

    with silence_pillow():
        checked = in_order(
            lambda few: [(at, _checked(row, config)) for at, row in few],
            _few_at_a_time(itertools.chain([first], rows)),
            min(_DECODERS, os.cpu_count() or 1),
            lambda few: not any(_has_images(row) for _, row in few),
        )
        yield from itertools.chain.from_iterable(checked)


def _few_at_a_time(read: Iterable[tuple[tuple[int, int], _Read]]) -> Iterator[list[tuple[tuple[int, int], _Read]]]:
    """Rows in handfuls: to hand a small image to a thread takes as long as to decode it."""
    few, heavy = [], 0
    for at, row in read:
        few.append((at, row))
        heavy += 0 if isinstance(row, BadSample) else sum(len(image.bytes) for image in row.images)
        if len(few) >= _HANDFUL or heavy >= _HANDFUL_BYTES:
            yield few
            few, heavy = [], 0
    if few:
        yield few


def _lying(record: Record) -> KeptRows:
    assert record.kept_in is not None, "it is kept"
    return record.kept_in


def _has_images(row: _Read) -> bool:
    return not isinstance(row, BadSample) and bool(row.images)


def _is_as_planned(row: PromptRow | Illustrated) -> bool:
    """Whether a kept row's id, which is of the images that planning saw, is of these; another row has its own."""
    if isinstance(row, PromptRow):
        return True
    return images_key([hashlib.sha256(i.bytes).hexdigest() for i in row.images]) == row.record.images
