"""JSON lines of your own: prompt or messages, images as paths or data URLs, answers, labels.

Each line is one plain sample; `stages/reading/plain_samples.py` lists the keys, and only `prompt` or
`messages` must be there:

    {"prompt": "How many cups?", "image": "cups.png", "answer": 3, "label": "general", "split": "test"}

Image paths are relative to the file. A line that can't be read is a rejected row with its number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from schemas.identity import digest
from schemas.prompts import PromptRow
from stages.core.config import option
from stages.core.errors import BadSample
from stages.prepare.datasets.base import Record
from stages.prepare.kept_rows import KeptRows
from stages.prepare.reading.records import record_of, rejected_record, row_of
from stages.reading.files import json_line, lines, matching, sha256
from stages.reading.plain_samples import Defaults, Draft, draft_of, images_of
from stages.reading.unread_images import UnreadImage, image_from


@dataclass(frozen=True)
class JsonlOptions:
    """Where the lines are, and what holds for lines that do not say it."""

    path: str = option("", "A .jsonl file, or a folder of them", affects=False)
    label: str = option("general", "Label of lines without one")
    task: str = option("", "Task of lines without one; their label if empty")
    split: str = option("train", "Split of lines without one", choices=("train", "test"))
    answer_kind: str = option(
        "", "How to compare answers: number, choice, choices, text, math; guessed if empty",
        choices=("", "number", "choice", "choices", "text", "math"),
    )  # fmt: skip
    flags: list[str] = option([], "Flags added to every row")


class Jsonl:
    """Lines of the plain schema."""

    version = 2
    options = JsonlOptions

    def digest(self, options: JsonlOptions) -> dict[str, str]:
        """sha256 of each file, and of all images that its lines point to."""
        found = {}
        for n, file in enumerate(self._files(options)):
            found[f"{n:05d}"] = sha256(file)
            if images := _image_files(file):
                found[f"{n:05d} images"] = digest(images)
        return found

    def records(self, options: JsonlOptions, seed: int) -> Iterator[Record]:
        """One record a line that is not blank."""
        kept = KeptRows()
        for file in self._files(options):
            for number, offset, raw in lines(file):
                ref = f"{file.name} line {number}"
                try:
                    yield record_of(_draft(raw, file, options), ref, (file, offset), kept)
                except BadSample as bad:
                    yield rejected_record(ref, bad)

    def row(self, record: Record, options: JsonlOptions) -> PromptRow:
        """The row of one line, which is read again: lines with images inside are not kept in memory."""
        return row_of(_draft(_line(record), record.payload[0], options))

    def images(self, record: Record, options: JsonlOptions) -> list[UnreadImage]:
        """The images of one line, which is read again."""
        return images_of(json_line(_line(record)), partial(image_from, folder=record.payload[0].parent))

    def _files(self, options: JsonlOptions) -> list[Path]:
        return matching(Path(options.path).expanduser(), ".jsonl", "a .jsonl file")


def _line(record: Record) -> bytes:
    # The offset is that of the line's first byte, which is why lines are counted in bytes.
    file, offset = record.payload
    with open(file, "rb") as handle:
        handle.seek(offset)
        return handle.readline()


def _draft(raw: bytes, file: Path, options: JsonlOptions) -> Draft:
    defaults = Defaults.of(options, f"jsonl:{file.stem}", strict=True)
    return draft_of(json_line(raw), defaults, partial(image_from, folder=file.parent))


def _image_files(file: Path) -> list[list[str]]:
    """(name, sha256) of every image file that is named in the lines; missing ones are named too."""
    found: list[list[str]] = []

    def note(value: object, name: str) -> UnreadImage:
        try:
            image = image_from(value, name, file.parent)
        except BadSample as bad:
            found.append([bad.reason, bad.detail])
            raise
        # Data URLs are in the file's own digest already.
        if isinstance(value, str) and not value.startswith("data:"):
            found.append([image.name, image.digest()])
        return image

    for _, _, raw in lines(file):
        # Only these lines are parsed here; `records` parses every line anyway.
        if b'"image' in raw:
            try:
                draft_of(json_line(raw), Defaults(""), note)
            except BadSample:
                continue  # Its record says so; here only what its images are counts.
    return found


PLUGIN = Jsonl()
