"""Small images, small files, and `cosmo prepare` in this process."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from schemas.prompts import PromptRow
from schemas.rejected import RejectedRow
from schemas.tables import PROMPTS
from stages.core.config import build
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.core.stage import Resources
from stages.prepare.datasets.base import Record
from stages.prepare.sources import parse, records
from stages.prepare.stage import STAGE
from tests.support.cli import SHARED

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="no ../shared/data: public benchmark files are not here")


class Notes:
    """A Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, what: str, total: int | None, unit: str) -> None: ...

    def advance(self, n: int = 1, **numbers: float | str) -> None: ...

    def log(self, message: str) -> None:
        self.lines.append(message)


class Prepared:
    """One run: its rows, what it left out, what it said."""

    def __init__(self, folder: RunFolder, state: str, notes: list[str]) -> None:
        self.folder, self.state, self.notes = folder, state, notes
        self.rows: list[PromptRow] = list(folder.rows(PROMPTS))
        self.rejected: list[RejectedRow] = list(folder.rejected())

    def why(self) -> dict[str, str]:
        """Reason by ref."""
        return {r.ref: r.reason for r in self.rejected}


def prepare(runs: Path, *sources: Any, **config: Any) -> Prepared:
    """A whole run of the stage through the runner."""
    notes = Notes()
    made = build(STAGE.config, {"sources": list(sources), **config}, "prepare")
    result = run_stage(STAGE, made, [], options=Options(runs=runs), progress=notes)
    return Prepared(RunFolder.open(result.path), result.state, notes.lines)


def read(spec: Any) -> tuple[list[Record], list[PromptRow]]:
    """All records of a source, and the rows of those that were not refused."""
    source = parse(spec, "test")
    found = records(source, 0, Resources())
    return found, [source.plugin.row(r, source.options) for r in found if r.rejected is None]


def image(color: Any = "navy", size: tuple[int, int] = (24, 16), kind: str = "PNG", **save: Any) -> bytes:
    """An encoded image of one colour."""
    out = io.BytesIO()
    Pillow.new("RGB", size, color).save(out, kind, **save)
    return out.getvalue()


def write_lines(path: Path, *items: Any) -> Path:
    """A JSON-lines file; a string goes in as it is."""
    text = "".join((i if isinstance(i, str) else json.dumps(i)) + "\n" for i in items)
    path.write_text(text, encoding="utf-8")
    return path


def record(n: int, text: str = "", **more: Any) -> Record:
    """A record for the choosing tests; its key follows its number."""
    values = {"label": "general", "task": "t", "split": "train", "ref": f"line {n}", "key": f"key {n}"}
    return Record(text=text, **{**values, **more})
