"""Datasets that are plain functions: a generator of dictionaries, each one a plain sample.

    def riddles():
        yield {"prompt": "What has keys and opens no lock?", "answer": "a piano"}

`stages/reading/plain_samples.py` lists the keys. A function with a parameter `path` takes one, as in
`cosmo prepare ./mine.py:riddles:folder/`; image paths are then relative to that folder. The function is called whenever
a run is planned, and has to give the same samples in the same order: they are the source's content.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from schemas.identity import digest
from schemas.prompts import PromptRow
from stages.core.config import option
from stages.core.errors import BadSample, InputError
from stages.prepare.datasets.base import Record
from stages.prepare.kept_rows import KeptRows
from stages.prepare.reading.records import record_of, rejected_record, row_of
from stages.reading.plain_samples import Defaults, Draft, draft_of, images_of
from stages.reading.unread_images import UnreadImage, image_from


@dataclass(frozen=True)
class FunctionOptions:
    """What holds for samples that do not say it."""

    label: str = option("general", "Label of samples without one")
    task: str = option("", "Task of samples without one; their label if empty")
    split: str = option("train", "Split of samples without one", choices=("train", "test"))


@dataclass(frozen=True)
class PathOptions(FunctionOptions):
    """The same for a function that takes a path."""

    path: str = option("", "What the function is called with: a file or a folder", affects=False)


@dataclass(frozen=True)
class FunctionDataset:
    """A function as a dataset plugin; see `stages.prepare.datasets.base.Dataset`."""

    name: str
    function: Callable[..., Iterable[Mapping[str, Any]]]
    options: type[Any]
    version: int = 1

    def digest(self, options: Any) -> dict[str, str]:
        """sha256 of all samples, with the content of the images that they name."""
        images: list[str] = []

        def note(value: object, name: str, folder: Path | None) -> UnreadImage:
            image = image_from(value, name, folder)
            images.append(image.digest())
            return image

        spelled = []
        for sample in self._samples(options):
            # `repr`, because samples may hold bytes and dates, which JSON can't; sorted, because the order of keys says
            # nothing.
            spelled.append(repr(sorted(sample.items(), key=lambda item: str(item[0]))))
            try:
                self._draft(sample, options, note)
            except BadSample as bad:
                # What is wrong with an image is content too: once the file is there, the source is another.
                images.append(str(bad))
        return {"samples": digest([spelled, images])}

    def records(self, options: Any, seed: int) -> Iterator[Record]:
        """One record a sample; one that can't be used says why."""
        kept = KeptRows()
        for number, sample in enumerate(self._samples(options), start=1):
            ref = f"{self.name} sample {number}"
            try:
                yield record_of(self._draft(sample, options, image_from), ref, sample, kept)
            except BadSample as bad:
                yield rejected_record(ref, bad)

    def row(self, record: Record, options: Any) -> PromptRow:
        """The row of one sample."""
        return row_of(self._draft(record.payload, options, image_from))

    def images(self, record: Record, options: Any) -> list[UnreadImage]:
        """The images of one sample."""
        return images_of(record.payload, partial(image_from, folder=_folder(options)))

    def _samples(self, options: Any) -> Iterator[Mapping[str, Any]]:
        path = getattr(options, "path", None)
        for number, sample in enumerate(self.function() if path is None else self.function(path), start=1):
            if not isinstance(sample, Mapping):
                # A sample that is no dict is the function's fault, not one sample's.
                raise InputError(
                    f"sample {number} of {self.name} is a {type(sample).__name__}, not a dict",
                    'yield {"prompt": ..., "answer": ...}',
                )
            yield sample

    def _draft(self, sample: Mapping[str, Any], options: Any, image: Callable[..., UnreadImage]) -> Draft:
        defaults = Defaults(self.name, options.label, options.task, options.split, strict=True)
        return draft_of(sample, defaults, partial(image, folder=_folder(options)))


def _folder(options: Any) -> Path | None:
    """What image paths are relative to; None where the function takes no path."""
    if (path := getattr(options, "path", None)) is None:
        return None
    folder = Path(path).expanduser()
    return folder.parent if folder.is_file() else folder


def adapt(name: str, plugin: Any) -> Any:
    """A dataset plugin; TypeError for a function that nobody can call so. Anything but a function is taken as it is."""
    # Only plain functions: a class or an object that is called so has its own `records` and `row`.
    if not inspect.isfunction(plugin):
        return plugin
    parameters = list(inspect.signature(plugin).parameters)
    if parameters not in ([], ["path"]):
        raise TypeError(f"{name} takes {', '.join(parameters)}; a dataset takes nothing, or a path")
    return FunctionDataset(name, plugin, PathOptions if parameters else FunctionOptions)
