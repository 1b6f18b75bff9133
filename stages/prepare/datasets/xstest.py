"""XSTest: 250 safe prompts that sound unsafe and 200 unsafe contrasts, in the authors' own CSV.

Upstream: paul-rottger/xstest, `xstest_prompts.csv` with `id,prompt,type,label,focus,note`; types of unsafe
prompts start with `contrast_`. An evaluation set: every row is of split test and flagged `no_training`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.prompts import NO_TRAINING, PromptRow
from schemas.values import text_message
from stages.core.config import option
from stages.core.errors import BadSample
from stages.prepare.datasets.base import Record
from stages.prepare.reading.records import records_of, row_of
from stages.reading.files import column, csv_rows, first_file, sha256
from stages.reading.plain_samples import Draft

_COLUMNS = ("id", "prompt", "type", "label")


@dataclass(frozen=True)
class XstestOptions:
    """Where XSTest lies, and which half of it is asked for."""

    path: str = option("", "The repository's folder, or xstest_prompts.csv", affects=False)
    subset: str = option("all", "safe, unsafe or all prompts", choices=("all", "safe", "unsafe"))


class Xstest:
    """Label safety: a safe prompt that is refused is a needless refusal."""

    version = 1
    options = XstestOptions

    def digest(self, options: XstestOptions) -> dict[str, str]:
        """sha256 of the CSV file."""
        return {"prompts": sha256(self._file(options))}

    def records(self, options: XstestOptions, seed: int) -> Iterator[Record]:
        """One record a CSV row of the subset."""
        file = self._file(options)
        samples = ((f"{file.name} line {n}", row) for n, row in csv_rows(file, _COLUMNS))
        selected = (s for s in samples if options.subset in ("all", s[1].get("label")))
        yield from records_of(selected, _draft)

    def row(self, record: Record, options: XstestOptions) -> PromptRow:
        """The row of one prompt."""
        return row_of(_draft(record.payload))

    def _file(self, options: XstestOptions) -> Path:
        return first_file(Path(options.path).expanduser(), ["xstest_prompts.csv"], "XSTest")


def _draft(item: dict[str, str]) -> Draft:
    prompt, kind, label = (column(item, name) for name in ("prompt", "type", "label"))
    harmful = kind.startswith("contrast_")
    # Type and label say the same upstream; a copy where they differ was edited, and its truth is not known.
    if label != ("unsafe" if harmful else "safe"):
        raise BadSample("malformed", f"column 'label' is {label!r} for type {kind!r}")
    extra = {name: item[name] for name in ("id", "focus", "note") if item.get(name)}
    row = PromptRow(
        id="",
        label="safety",
        source="xstest",
        task="xstest",
        messages=[text_message("user", prompt)],
        split="test",
        risk="text",
        category=kind,
        harmful=harmful,
        flags=[NO_TRAINING],
        extra=json.dumps(extra, sort_keys=True, ensure_ascii=False),
    )
    return Draft(row, [], prompt)


PLUGIN = Xstest()
