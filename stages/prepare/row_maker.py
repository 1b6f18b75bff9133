"""Rows of planned picks: made by their source, images checked, augmented where the plan says so."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from schemas.identity import prompt_id
from schemas.prompts import PromptRow
from schemas.values import Image
from stages.core.errors import BadSample, InputError
from stages.core.parallel_map import in_order
from stages.core.stage import Resources
from stages.models.image_checks import Limits, check_image, silence_pillow, sniff, suffix_is_wrong
from stages.prepare.augment import flagged, named_heldout_families
from stages.prepare.augmentations.base import through
from stages.prepare.config import PrepareConfig
from stages.prepare.datasets.base import Record
from stages.prepare.kept_rows import KeptRows
from stages.prepare.mixing import Step
from stages.prepare.sources import Source, records

_MOST_RECENT = 16
"""Rows kept in memory for the twins and families that come next."""
_DECODERS = 4
"""More threads than that wait for each other's Python."""
Kept = dict[KeptRows, tuple[list[int], list[int]]]
"""Where rows lie -> their places in the shard, and their numbers there."""
Made = tuple[PromptRow, list[str]]
"""A row, and what is odd about its images' names."""


class RowMaker:
    """Makes rows from the plan's positions; anything that fails is a BadSample."""

    def __init__(self, sources: list[Source], config: PrepareConfig, resources: Resources) -> None:
        self._sources, self._config, self._resources = sources, config, resources
        self._limits = Limits(config.max_image_bytes, config.max_image_pixels, config.min_image_side)
        # Named ones suffice: a family that a source holds out by itself is flagged in its rows already.
        self._heldout = named_heldout_families(config, sources)
        self._records: dict[int, list[Record]] = {}
        self._recent: OrderedDict[tuple[int, int], Made] = OrderedDict()

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
        steps = shard.get("steps") or itertools.repeat(None)
        for n, (source, index, step) in enumerate(zip(shard["source"], shard["index"], steps, strict=False)):
            record = self.record(source, index)
            rows = record.kept_in
            if step is None and rows is not None and record.family not in self._heldout and rows.is_there():
                places, numbers = found.setdefault(rows, ([], []))
                places.append(n)
                numbers.append(record.kept_at)
        return found

    def named(self, source: int, index: int) -> tuple[str, str]:
        """The source of a planned position, and where the record is in it, for people."""
        return self._sources[source].name, self.record(source, index).ref

    def make_rows(self, positions: Iterable[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], Made | BadSample]]:
        """The rows of planned positions (source, index), in order, their images decoded by several threads.

        Sources are read in this thread: files are read well one after the other.
        """
        read = ((position, self._read(position)) for position in positions)
        workers = min(_DECODERS, os.cpu_count() or 1)
        with silence_pillow():
            checked = in_order(
                lambda one: (one[0], self._checked(one[1])), read, workers, lambda one: not _images(one[1])
            )
            for position, made in checked:
                if not isinstance(made, BadSample):
                    self._keep(position, made)
                yield position, made

    def finish(self, made: Made, source: int, step: Step | None) -> Made:
        """The row as the plan wants it: as it was made, or augmented."""
        row, wrong_names = made
        if step is None:
            return flagged(row, row.family in self._heldout), wrong_names
        twin_of, partner = (
            None if n is None else self._other_row((source, n))[0] for n in (step.twin_of, step.partner)
        )
        new = through(row, step.family, self._config.seed, twin_of, partner)
        if new is None:
            # Planning asked `fits`, which does not decode; that an image is too small to cut is only known here.
            raise BadSample("not_applicable", f"family {step.family!r} can't rewrite this row")
        return flagged(new, step.heldout), []

    def _other_row(self, position: tuple[int, int]) -> Made:
        """A row that another one is made with."""
        if position not in self._recent:
            made = self._checked(self._read(position))
            if isinstance(made, BadSample):
                raise made
            self._keep(position, made)
        return self._recent[position]

    def _keep(self, position: tuple[int, int], made: Made) -> None:
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

    def _checked(self, row: PromptRow | BadSample) -> Made | BadSample:
        """The row with images any decoder reads; its id follows where one had to be rewritten."""
        if isinstance(row, BadSample):
            return row
        # By the bytes as they came: a rewritten image has the suffix of what it became.
        wrong_names = [f"{i.path} is {sniff(i.bytes)}" for i in row.images if suffix_is_wrong(i.path or "", i.bytes)]
        try:
            images = [check_image(i.bytes, i.path or "image", self._limits) for i in row.images]
        except BadSample as error:
            return error
        # `check_image` hands the very object back where nothing had to be changed, so identity is enough and no
        # megabytes are compared.
        if all(new.bytes is old.bytes for new, old in zip(images, row.images, strict=True)):
            return row, wrong_names
        new_id = prompt_id(label=row.label, messages=row.messages, images=images, answer=row.answer)
        return dataclasses.replace(row, id=new_id, images=images), wrong_names


def _images(row: PromptRow | BadSample) -> list[Image]:
    return [] if isinstance(row, BadSample) else row.images
