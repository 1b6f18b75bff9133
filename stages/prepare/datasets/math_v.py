"""MATH-V (MATH-Vision): competition problems with an image, in the authors' own JSON lines.

Upstream: mathvision-cuhk/MATH-V, `data/{test,testmini}.jsonl` with `question`, `options`, `answer`, `image`
and others, and `images/`. `options` may be empty, or the bare letters of options drawn in the image;
`<image1> <image2> ...` are marks in one and the same image. An evaluation set: split test, flagged
`no_training`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.identity import digest
from schemas.prompts import NO_TRAINING, PromptRow
from schemas.values import Message, Part
from stages.core.config import option
from stages.core.errors import BadSample
from stages.prepare.datasets.base import Record
from stages.prepare.reading.records import records_of, row_of
from stages.reading.files import column, digest_if_file, first_file, is_file, json_line, lines, sha256
from stages.reading.plain_samples import Draft
from stages.reading.unread_images import file_image

_MARK = re.compile(r"<image(\d*)>")
_LETTERS = [*"ABCDE"]


@dataclass(frozen=True)
class MathVOptions:
    """Where MATH-V lies and which of its two lists is wanted."""

    path: str = option("", "The repository's folder, with data/ and images/", affects=False)
    subset: str = option("testmini", "testmini (304) or test (3040)", choices=("testmini", "test"))


class MathV:
    """Label math; a problem whose image is not there is a rejected row."""

    version = 1
    options = MathVOptions

    def digest(self, options: MathVOptions) -> dict[str, str]:
        """sha256 of the list and of the images it names, where they are."""
        file = self._file(options)
        images = []
        for _, _, raw in lines(file):
            try:
                path = _image_path(file, column(json_line(raw), "image"))
            except BadSample:
                continue  # Its record says so.
            if known := digest_if_file(path):
                images.append([path.name, known])
        return {"problems": sha256(file), "images": digest(images)}

    def records(self, options: MathVOptions, seed: int) -> Iterator[Record]:
        """One record a line."""
        file = self._file(options)
        yield from records_of(((f"{file.name} line {n}", (file, raw)) for n, _, raw in lines(file)), _draft)

    def row(self, record: Record, options: MathVOptions) -> PromptRow:
        """The row of one problem."""
        return row_of(_draft(record.payload))

    def _file(self, options: MathVOptions) -> Path:
        names = [f"data/{options.subset}.jsonl", f"{options.subset}.jsonl"]
        return first_file(Path(options.path).expanduser(), names, "MATH-V")


def _image_path(file: Path, image: str) -> Path:
    # The list may lie in `data/` beside `images/`, or, unpacked by hand, in the same folder.
    folders = (file.parent.parent, file.parent)
    return next((p for f in folders if is_file(p := f / image)), folders[0] / image)


def _draft(sample: tuple[Path, bytes]) -> Draft:
    file, raw = sample
    item = json_line(raw)
    question, image = column(item, "question"), column(item, "image")
    # One upstream answer lost its backslash to an escape: form feed + "rac" is \frac.
    answer = column(item, "answer").replace("\x0c", "\\f").strip()
    options = item.get("options")
    if not isinstance(options, list) or not all(isinstance(o, str) for o in options):
        raise BadSample("malformed", f"column 'options' is {options!r:.60}, and must be a list of texts")
    if not answer:
        raise BadSample("malformed", "column 'answer' is empty")
    # Options drawn in the image leave the list empty; a single letter as answer gives them away.
    choices = options or (_LETTERS if answer in _LETTERS else [])
    row = PromptRow(
        id="",
        label="math",
        source=f"math_v:{file.stem}",
        task=item.get("subject") or "math_v",
        messages=[_message(question, options)],
        split="test",
        answer=answer,
        answer_kind="choice" if choices else "math",
        choices=choices,
        category=item.get("subject"),
        flags=[NO_TRAINING],
        extra=_extra(item),
    )
    return Draft(row, [file_image(_image_path(file, image), image)], _MARK.sub(" ", question))


def _extra(item: dict[str, Any]) -> str:
    kept = {name: item[name] for name in ("id", "level", "solution") if item.get(name) is not None}
    return json.dumps(kept, sort_keys=True, ensure_ascii=False)


def _message(question: str, options: list[str]) -> Message:
    """One image where its first mark is, or in front; further marks name places inside that image."""
    body = question
    if any(not _bare(o, n) for n, o in enumerate(options)):
        body += "\n" + "\n".join(f"({letter}) {o}" for letter, o in zip(_letters(options), options, strict=True))
    marks = list(_MARK.finditer(body))
    several = len({m.group() for m in marks}) > 1
    first = marks[0] if marks else None
    before = body[: first.start()] if first else ""
    after = body[first.end() :] if first else body
    named = f"(image {first.group(1)})" if first and several else ""
    after = _MARK.sub(lambda m: f"(image {m.group(1)})" if several else "(the image)", after)
    parts = [Part("text", before.strip()), Part("image"), Part("text", (named + after).strip())]
    return Message("user", [p for p in parts if p.type == "image" or p.text])


def _bare(choice: str, n: int) -> bool:
    """True for `A` or `(A)` at its own place: the options are drawn in the image."""
    return choice.strip("() ") == _letters([""] * (n + 1))[n]


def _letters(options: list[str]) -> list[str]:
    return [chr(ord("A") + n) for n in range(len(options))]


PLUGIN = MathV()
