"""GSM8K: grade-school word problems with a number as answer, in OpenAI's own JSON lines.

Upstream: openai/grade-school-math, `grade_school_math/data/{train,test}.jsonl` with `question` and `answer`.
The gold number follows `#### `, its thousands separators are dropped; `<<48/2=24>>` are calculator notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.prompts import PromptRow
from schemas.values import text_message
from stages.core.config import option
from stages.core.errors import BadSample, InputError
from stages.prepare.datasets.base import Record
from stages.prepare.reading.records import records_of, row_of
from stages.reading.files import column, first_file, json_line, lines, sha256
from stages.reading.plain_samples import Draft

# `#### 1,450` at the end; a full stop behind the number is taken too, and cut off below.
_GOLD = re.compile(r"####\s*(-?[0-9.,]+)\s*$")
_NOTE = re.compile(r"<<[^<>]*>>")
_FOLDERS = ("grade_school_math/data", ".")
_SPLITS = ("train", "test")


@dataclass(frozen=True)
class Gsm8kOptions:
    """Where GSM8K lies and which half is wanted."""

    path: str = option("", "The repository's folder, that of its .jsonl files, or one file", affects=False)
    subset: str = option("all", "train, test, or all that is there", choices=("all", "train", "test"))


class Gsm8k:
    """Label math; a worked solution becomes the reference response."""

    version = 1
    options = Gsm8kOptions

    def digest(self, options: Gsm8kOptions) -> dict[str, str]:
        """sha256 of each split's file."""
        return {split: sha256(file) for split, file in self._files(options).items()}

    def records(self, options: Gsm8kOptions, seed: int) -> Iterator[Record]:
        """One record a line, train first."""
        for split, file in self._files(options).items():
            yield from records_of(((f"{file.name} line {n}", (split, raw)) for n, _, raw in lines(file)), _draft)

    def row(self, record: Record, options: Gsm8kOptions) -> PromptRow:
        """The row of one line."""
        return row_of(_draft(record.payload))

    def _files(self, options: Gsm8kOptions) -> dict[str, Path]:
        root = Path(options.path).expanduser()
        splits = _SPLITS if options.subset == "all" else (options.subset,)
        if root.is_file():
            return {_split_of(root, options): root}
        found = {}
        for split in splits:
            names = [f"{folder}/{split}.jsonl" for folder in _FOLDERS]
            try:
                found[split] = first_file(root, names, "GSM8K")
            except InputError:
                # `all` is all that is there; one split asked for by name must be.
                if options.subset != "all" or (split == _SPLITS[-1] and not found):
                    raise
        return found


def _split_of(file: Path, options: Gsm8kOptions) -> str:
    if options.subset != "all":
        return options.subset
    if file.stem not in _SPLITS:
        raise InputError(f"{file} does not say its split by its name", 'give its table subset = "train" or "test"')
    return file.stem


def _draft(sample: tuple[str, bytes]) -> Draft:
    split, raw = sample
    item = json_line(raw)
    question, solution = column(item, "question"), column(item, "answer")
    gold = _GOLD.search(solution)
    if gold is None:
        raise BadSample("malformed", "column 'answer' has no number after '####'")
    answer = gold.group(1).replace(",", "").rstrip(".")
    steps = _NOTE.sub("", solution[: gold.start()]).strip()
    row = PromptRow(
        id="",
        label="math",
        source=f"gsm8k:{split}",
        task="gsm8k",
        messages=[text_message("user", question)],
        split=split,
        answer=answer,
        answer_kind="number",
        reference_response=f"<think> {steps} </think> {answer}",
    )
    return Draft(row, [], question)


PLUGIN = Gsm8k()
